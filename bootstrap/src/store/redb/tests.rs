use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::redb::backends::FileBackend;
use mesh::{AddressPlan, ApplyError, Claim, Far, LinkId, Mac, Role, allocate};
use tempfile::TempDir;

use super::*;

/// The file that a child of the crash test appends to.
const CRASH_FILE: &str = "MESHBOOT_TEST_CRASH_FILE";

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    (folder, path)
}

fn mac(number: u64) -> Mac {
    let [.., a, b, c, d] = number.to_be_bytes();
    Mac([2, 0, a, b, c, d])
}

/// The change that a ledger at this revision gets: machines, then links between them, a removal now and then.
fn change_at(ledger: &Ledger, revision: Revision) -> Change {
    let plan = AddressPlan::default();
    let step = revision.0;
    let machines: Vec<_> = ledger.machines().collect();
    match (step % 7, machines.as_slice()) {
        (6, [.., last]) => Change::Remove(last.id),
        (1 | 3 | 5, [first, .., last]) => {
            let id = LinkId { near: first.id, port: first.ports[0].index };
            let far = Far { mac: mac(step), machine: Some(last.id) };
            allocate::attach(ledger, &plan, id, far).unwrap().unwrap()
        }
        _ => {
            let ports = vec![(mac(step), format!("enp{step}s0"))];
            let claim =
                Claim { uuid: None, boot_mac: mac(step), ports, role: Role::Node, preferred_name: None };
            allocate::admit(ledger, &plan, &claim).unwrap().change.unwrap()
        }
    }
}

fn append_next(store: &dyn Store) -> Result<Revision, StoreError> {
    let (ledger, revision) = store.load()?;
    store.append(revision, &change_at(&ledger, revision))
}

/// What a ledger is after so many appends.
fn model(revision: Revision) -> Ledger {
    let mut ledger = Ledger::default();
    for step in 0..revision.0 {
        let change = change_at(&ledger, Revision(step));
        ledger.apply(&change).unwrap();
    }
    ledger
}

#[test]
fn holds_what_it_was_given_after_a_restart() {
    let (_folder, path) = folder();
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(store.load().unwrap(), (Ledger::default(), Revision(0)));
    for step in 1..=40 {
        assert_eq!(append_next(&store).unwrap(), Revision(step));
    }
    let before = store.load().unwrap();
    assert_eq!(before, (model(Revision(40)), Revision(40)));
    drop(store);
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(store.load().unwrap(), before);
    assert_eq!(store.phase(), Phase::Own);
}

#[test]
fn refuses_a_stale_writer_and_a_change_that_breaks_the_ledger() {
    let (_folder, path) = folder();
    let store = RedbStore::open(&path).unwrap();
    let change = change_at(&Ledger::default(), Revision(0));
    store.append(Revision(0), &change).unwrap();
    let error = store.append(Revision(0), &change).unwrap_err();
    assert!(matches!(error, StoreError::Conflict { actual: Revision(1), .. }), "{error}");
    let error = store.append(Revision(1), &change).unwrap_err();
    assert!(matches!(error, StoreError::Refused(ApplyError::Known(_))), "{error}");
    assert_eq!(store.load().unwrap().1, Revision(1));
}

#[test]
fn a_copy_follows_forward_only_and_remembers_that_it_is_one() {
    let (_folder, path) = folder();
    let store = RedbStore::open(&path).unwrap();
    append_next(&store).unwrap();
    store.set_phase(Phase::HandingOver).unwrap();
    store.copy(&model(Revision(30)), Revision(30)).unwrap();
    store.copy(&model(Revision(20)), Revision(20)).unwrap();
    assert_eq!(store.load().unwrap(), (model(Revision(30)), Revision(30)));
    drop(store);
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(store.phase(), Phase::Copy);
    assert_eq!(store.load().unwrap(), (model(Revision(30)), Revision(30)));
}

#[test]
fn is_open_once() {
    let (_folder, path) = folder();
    let _store = RedbStore::open(&path).unwrap();
    let error = RedbStore::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let (_folder, path) = folder();
    let path = path.join("ledger.redb");
    let error = RedbStore::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
}

#[test]
fn a_half_made_file_of_a_crash_is_made_again() {
    let (_folder, path) = folder();
    fs::write(path.with_file_name("ledger.redb.new"), b"half").unwrap();
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(store.load().unwrap().1, Revision(0));
}

#[test]
fn a_later_schema_is_left_to_the_version_that_knows_it() {
    let (_folder, path) = folder();
    drop(RedbStore::open(&path).unwrap());
    let database = builder().open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("schema", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = RedbStore::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 2, .. }), "{error}");
}

#[test]
fn a_damaged_file_is_named_and_never_written_to() {
    let (_folder, path) = folder();
    let store = RedbStore::open(&path).unwrap();
    for _ in 0..60 {
        append_next(&store).unwrap();
    }
    let ledger = store.load().unwrap();
    drop(store);
    let good = fs::read(&path).unwrap();

    let mut damaged: Vec<Vec<u8>> = vec![Vec::new(), b"not a ledger".to_vec(), vec![0; 4096]];
    damaged.extend([1, 100, 4096, good.len() / 2, good.len() - 1].map(|end| good[..end].to_vec()));
    // One bit in each part of the file.
    for at in (0..good.len()).step_by(good.len() / 150) {
        let mut octets = good.clone();
        octets[at] ^= 1 << (at % 8);
        damaged.push(octets);
    }
    let mut refused = 0;
    for octets in damaged {
        fs::write(&path, &octets).unwrap();
        match RedbStore::open(&path) {
            // The damage is where nothing is kept.
            Ok(store) => assert_eq!(store.load().unwrap(), ledger),
            Err(error) => {
                refused += 1;
                assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
                let text = error.to_string();
                assert!(text.contains(&path.display().to_string()) && text.contains("Put back"), "{text}");
                assert!(fs::read(&path).unwrap() == octets, "a damaged file was written to");
            }
        }
    }
    assert!(refused >= 8, "only {refused} were refused");
    fs::write(&path, &good).unwrap();
    assert_eq!(RedbStore::open(&path).unwrap().load().unwrap(), ledger);
}

/// A disk that fails from some write or sync on, as a full or dying one does.
#[derive(Debug)]
struct Failing {
    disk: FileBackend,
    left: Arc<AtomicUsize>,
}

impl Failing {
    fn spend(&self) -> io::Result<()> {
        let spent = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        spent.map(drop).map_err(|_| io::Error::other("no space left on device"))
    }
}

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.spend()?;
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.spend()?;
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.spend()?;
        self.disk.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.disk.close()
    }
}

#[test]
fn a_failing_disk_is_said_and_what_was_acknowledged_is_kept() {
    let (_folder, path) = folder();
    for writes in 0..60 {
        let _ = fs::remove_file(&path);
        let store = RedbStore::open(&path).unwrap();
        for _ in 0..3 {
            append_next(&store).unwrap();
        }
        drop(store);

        let left = Arc::new(AtomicUsize::new(usize::MAX));
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let disk = Failing { disk: FileBackend::new(file).unwrap(), left: Arc::clone(&left) };
        let database = builder().create_with_backend(disk).unwrap();
        let store = RedbStore::with_database(path.clone(), database).unwrap();
        left.store(writes, Ordering::Relaxed);
        let mut acknowledged = Revision(3);
        let error = loop {
            match append_next(&store) {
                Ok(revision) => acknowledged = revision,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert!(append_next(&store).is_err());
        drop(store);

        let (ledger, revision) = RedbStore::open(&path).unwrap().load().unwrap();
        assert!(
            (acknowledged..=Revision(acknowledged.0 + 1)).contains(&revision),
            "{acknowledged:?} {revision:?}"
        );
        assert_eq!(ledger, model(revision));
    }
}

/// The child of the test below; alone it does nothing.
#[test]
fn crash_child() {
    let Ok(path) = std::env::var(CRASH_FILE) else { return };
    let store = RedbStore::open(path).unwrap();
    let mut out = io::stdout();
    loop {
        let revision = append_next(&store).unwrap();
        writeln!(out, "acknowledged {}", revision.0).unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    let (_folder, path) = folder();
    let mut last = Revision(0);
    for life in 0..12_u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "store::redb::tests::crash_child"])
            .env(CRASH_FILE, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Killed at another point of its work each time: at once after an acknowledgement, or a little later.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let read =
            |line: String| line.rsplit_once("acknowledged ").map(|(_, number)| number.parse().unwrap());
        let mut acknowledged =
            lines.by_ref().filter_map(read).nth(1 + life as usize % 4).expect("it acknowledges");
        for _ in 0..life * 40_000 {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it wrote to the pipe before it died was acknowledged as well.
        if let Some(later) = lines.filter_map(read).last() {
            acknowledged = later;
        }
        let (ledger, revision) = RedbStore::open(&path).unwrap().load().unwrap();
        assert!(revision >= Revision(acknowledged), "{revision:?} after {acknowledged} was acknowledged");
        assert!(revision <= Revision(acknowledged + 1), "{revision:?} after {acknowledged} was acknowledged");
        assert!(revision > last);
        assert_eq!(ledger, model(revision));
        last = revision;
    }
}

#[test]
fn a_ledger_is_looked_at_without_a_trace() {
    let (folder, path) = folder();
    assert!(matches!(RedbStore::peek(&path), Err(OpenError::Io { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let store = RedbStore::open(&path).unwrap();
    let revision = append_next(&store).unwrap();
    assert!(matches!(RedbStore::peek(&path), Err(OpenError::InUse { .. })));
    drop(store);
    let before = fs::read(&path).unwrap();
    assert_eq!(RedbStore::peek(&path).unwrap(), model(revision));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
