//! The names of what is stored: tags, and manifests that came from elsewhere.

use std::{collections::BTreeSet, fs, io, path::Path};

use super::{
    Descriptor, Digest, MAX_MANIFEST, Manifest, Reference, RegistryName, Repository, Store, StoreError, Tag,
    durable, refs,
};

impl Store {
    /// Names an image. The manifest has to be stored before.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReadOnly`], or [`StoreError::Io`] also when the manifest is not there.
    pub fn set_ref(&self, reference: &Reference, target: &Descriptor) -> Result<(), StoreError> {
        let upper = self.upper().ok_or(StoreError::ReadOnly)?;
        self.write_name(&refs::tag_path(upper, reference), target)
    }

    fn write_name(&self, path: &Path, target: &Descriptor) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("writing the name", path, error);
        if !self.contains(&target.digest) {
            let manifest = self.upper_path(&target.digest)?;
            return Err(StoreError::io("naming", &manifest, io::ErrorKind::NotFound.into()));
        }
        let bytes = serde_json::to_vec(target).map_err(|error| failed(error.into()))?;
        let session = self.session()?;
        durable::replace_file(session.path(), path, &bytes).map_err(failed)
    }

    /// What a name points to. The uppermost store that knows it decides.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] or [`StoreError::Io`].
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Descriptor>, StoreError> {
        for dir in self.dirs() {
            if let Some(target) = refs::read(refs::tag_path(dir, reference))? {
                return Ok(Some(target));
            }
        }
        Ok(None)
    }

    /// Removes a name from the writable store, and says whether it was there. Blobs stay.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReadOnly`] or [`StoreError::Io`].
    pub fn remove_ref(&self, reference: &Reference) -> Result<bool, StoreError> {
        remove_name(&refs::tag_path(self.upper().ok_or(StoreError::ReadOnly)?, reference))
    }

    /// Remembers a manifest of a repository that came from elsewhere, and of which kind it is. It has to be stored before.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReadOnly`] or [`StoreError::Io`].
    pub fn set_manifest(
        &self,
        registry: &RegistryName,
        repository: &Repository,
        target: &Descriptor,
    ) -> Result<(), StoreError> {
        let upper = self.upper().ok_or(StoreError::ReadOnly)?;
        self.write_name(&refs::manifest_path(upper, registry, repository, &target.digest), target)
    }

    /// Makes a repository known that has no manifest yet: what it will be made of comes first.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReadOnly`] or [`StoreError::Io`].
    pub fn begin_repository(
        &self,
        registry: &RegistryName,
        repository: &Repository,
    ) -> Result<(), StoreError> {
        let upper = self.upper().ok_or(StoreError::ReadOnly)?;
        let path = refs::manifests_dir(upper, registry, repository);
        durable::create_dirs(&path).map_err(|error| StoreError::io("making", &path, error))
    }

    /// A manifest of a repository that came from elsewhere.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] or [`StoreError::Io`].
    pub fn manifest(
        &self,
        registry: &RegistryName,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Descriptor>, StoreError> {
        for dir in self.dirs() {
            if let Some(target) = refs::read(refs::manifest_path(dir, registry, repository, digest))? {
                return Ok(Some(target));
            }
        }
        Ok(None)
    }

    /// The manifests of a repository that came from elsewhere, by their digests.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] or [`StoreError::Io`].
    pub fn manifests(
        &self,
        registry: &RegistryName,
        repository: &Repository,
    ) -> Result<Vec<Descriptor>, StoreError> {
        let digests = self.gather(|dir| refs::manifests(dir, registry, repository))?;
        let read = |digest: &Digest| self.manifest(registry, repository, digest).transpose();
        digests.iter().filter_map(read).collect()
    }

    /// The same, each with what it says. Those that are not stored any more, or are none, are left out.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] or [`StoreError::Io`].
    pub fn parsed_manifests(
        &self,
        registry: &RegistryName,
        repository: &Repository,
    ) -> Result<Vec<(Descriptor, Manifest)>, StoreError> {
        let mut all = Vec::new();
        for target in self.manifests(registry, repository)? {
            let bytes = self.read(&target.digest, MAX_MANIFEST)?;
            let manifest = bytes.and_then(|bytes| Manifest::parse(&bytes).ok());
            all.extend(manifest.map(|manifest| (target, manifest)));
        }
        Ok(all)
    }

    /// Forgets a manifest of a repository, and says whether it was there. Blobs stay.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReadOnly`] or [`StoreError::Io`].
    pub fn remove_manifest(
        &self,
        registry: &RegistryName,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let upper = self.upper().ok_or(StoreError::ReadOnly)?;
        remove_name(&refs::manifest_path(upper, registry, repository, digest))
    }

    /// Whether a repository is known: whether it has a tag, or a manifest that came from elsewhere.
    #[must_use]
    pub fn knows(&self, registry: &RegistryName, repository: &Repository) -> bool {
        let folders = [refs::tags_dir, refs::manifests_dir];
        self.dirs().any(|dir| folders.iter().any(|folder| folder(dir, registry, repository).is_dir()))
    }

    /// A repository's tags, sorted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn tags(&self, registry: &RegistryName, repository: &Repository) -> Result<Vec<Tag>, StoreError> {
        self.gather(|dir| refs::tags(dir, registry, repository))
    }

    /// A registry's repositories, sorted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn repositories(&self, registry: &RegistryName) -> Result<Vec<Repository>, StoreError> {
        self.gather(|dir| refs::repositories(dir, registry))
    }

    /// All names, sorted, and what they point to.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] or [`StoreError::Io`].
    pub fn refs(&self) -> Result<Vec<(Reference, Descriptor)>, StoreError> {
        let mut all = Vec::new();
        for registry in self.gather(refs::registries)? {
            for repository in self.repositories(&registry)? {
                for tag in self.tags(&registry, &repository)? {
                    let reference =
                        Reference { registry: registry.clone(), repository: repository.clone(), tag };
                    let target = self.resolve(&reference)?;
                    all.extend(target.map(|target| (reference, target)));
                }
            }
        }
        Ok(all)
    }

    fn gather<T: Ord>(
        &self,
        list: impl Fn(&Path) -> Result<Vec<T>, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut all = BTreeSet::new();
        for dir in self.dirs() {
            all.extend(list(dir)?);
        }
        Ok(all.into_iter().collect())
    }
}

fn remove_name(path: &Path) -> Result<bool, StoreError> {
    let failed = |error| StoreError::io("removing the name", path, error);
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if refs::is_absent(&error) => return Ok(false),
        Err(error) => return Err(failed(error)),
    }
    path.parent().map_or(Ok(()), durable::sync_dir).map_err(failed)?;
    Ok(true)
}
