use std::io::Write;

use super::*;

const LEN: usize = 3 * CHUNK + 100;

fn sample() -> (tempfile::NamedTempFile, Vec<u8>) {
    let octets: Vec<u8> = (0..LEN).map(|at| (at / 251 + at % 251).to_le_bytes()[0]).collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&octets).unwrap();
    (file, octets)
}

#[tokio::test]
async fn what_is_not_in_memory_is_read_as_well() {
    let (file, octets) = sample();
    file.as_file().sync_all().unwrap();
    rustix::fs::fadvise(file.as_file(), 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let file = Arc::new(file.reopen().unwrap());
    for offset in (0..LEN).step_by(CHUNK) {
        let len = CHUNK.min(LEN - offset);
        let found = read_at(Arc::clone(&file), offset as u64, len as u64).await.unwrap();
        assert_eq!(found, octets[offset..offset + len], "at {offset}");
    }
}

#[test]
fn what_is_in_memory_is_known_to_be() {
    let (file, _) = sample();
    let cached = |from: usize, to: usize| is_cached(file.as_file(), from as u64, to as u64);
    assert!(cached(0, LEN) && cached(LEN, LEN) && cached(5, 5));
    assert!(!cached(LEN - 1, LEN + 1), "nothing is there");
}

#[tokio::test]
async fn a_file_of_another_size_is_refused_and_one_that_shrank_fails() {
    let (file, _) = sample();
    let refused = open(file.path(), 1).await.unwrap_err();
    assert!(refused.to_string().contains("should have 1"), "{refused}");
    let opened = Arc::new(open(file.path(), LEN as u64).await.unwrap());
    file.as_file().set_len(10).unwrap();
    let failed = read_at(opened, 0, 100).await.unwrap_err();
    assert_eq!(failed.kind(), io::ErrorKind::UnexpectedEof);
}
