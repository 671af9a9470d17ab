use super::*;

#[test]
fn the_version_is_what_it_really_is() {
    for (package, version) in
        [("1.20.5+really1.20.2-1.1+deb12u1", "v1.20.2"), ("1.20.2-1", "v1.20.2"), ("1.33.4+ds1-2", "v1.33.4")]
    {
        assert_eq!(kubernetes_version(package).unwrap().to_string(), version);
    }
    assert!(kubernetes_version("unstable").is_err());
}

#[test]
fn the_version_is_linked_in() {
    let flags = linker_flags(&"v1.20.2".parse().unwrap());
    assert!(flags.contains("-X k8s.io/kubernetes/vendor/k8s.io/component-base/version.gitVersion=v1.20.2"));
    assert!(flags.contains(".gitMinor=20"));
}

#[test]
fn marked_packages_are_found_by_their_names_in_the_tree() {
    let tree = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = tree.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let marked = "// +k8s:openapi-gen=true\n\npackage v1\n";
    write("pkg/apis/abac/v0/doc.go", marked);
    write("pkg/apis/abac/v0/types.go", marked);
    write("pkg/apis/plain/doc.go", "package plain // see +k8s:openapi-gen=\n");
    write("pkg/apis/tested/doc_test.go", marked);
    write("staging/src/k8s.io/api/core/v1/doc.go", marked);
    write("staging/src/k8s.io/sample-apiserver/v1/doc.go", marked);
    let mut found = Vec::new();
    for folder in ["pkg", "staging/src"] {
        marked_packages(tree.path(), Path::new(folder), &mut found).unwrap();
    }
    found.sort_unstable();
    assert_eq!(found, ["k8s.io/kubernetes/pkg/apis/abac/v0", "k8s.io/kubernetes/vendor/k8s.io/api/core/v1"]);
}

#[test]
fn a_folder_without_a_source_package_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("other_1.dsc"), "").unwrap();
    assert!(matches!(source_of(dir.path()), Err(BuildDebianError::NoSource)));
}
