//! Rows of words in images, as this build writes them: plain, or as memory behind a header.

use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Rows {
    before: u8,
    #[serde(with = "deltawatch::operators::words")]
    words: Vec<u64>,
    after: u8,
}

#[test]
fn words_are_read_as_they_were_written_and_damage_to_memory_is_found() {
    for length in [0, 1, 7, 1000] {
        let rows = Rows { before: 1, words: (0..length).map(|word| word * 77).collect(), after: 2 };
        let bytes = bincode::serialize(&rows).expect("it is written");
        assert_eq!(bincode::deserialize::<Rows>(&bytes).expect("it is read"), rows);
        // Tag, then the length: whatever is cut off is found.
        assert!(bincode::deserialize::<Rows>(&bytes[..bytes.len() - 2]).is_err());
        if cfg!(feature = "abomonation") {
            for (place, word) in
                [(10, "begin as they should"), (20, "another build"), (27, "checksum"), (bytes.len() - 2, "checksum")]
            {
                let mut damaged = bytes.clone();
                damaged[place] ^= 1;
                let error = bincode::deserialize::<Rows>(&damaged).expect_err("it is damaged").to_string();
                assert!(error.contains(word), "byte {place}: {error}");
            }
        }
    }
}

#[test]
fn memory_that_is_none_of_ours_is_refused() {
    let as_memory = (1_u8, 1_u8, b"nothing of ours".to_vec(), 2_u8);
    let error = bincode::deserialize::<Rows>(&bincode::serialize(&as_memory).expect("it is written"));
    let error = error.expect_err("no words").to_string();
    let said = if cfg!(feature = "abomonation") { "cut off" } else { "build with it, or name another directory" };
    assert!(error.contains(said), "{error}");
}
