//! The journal gives back what was written to it, takes a torn end for the end, and refuses everything else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltawatch::disk::Disk;
use deltawatch::epoch::journal::{Covered, Journal, JournalPast};
use deltawatch::event::{CsvHeader, Lane, Partition, Payload, Record, Stand};
use deltawatch::flow::{Binding, Epoch, Repair};
use deltawatch::source::sealed::Terms;
use deltawatch::source::{Reader, Ready, SourceError};
use tempfile::TempDir;

/// Partitions of records that are read when the journal is at its end.
struct Live(Vec<Record>);

impl Reader for Live {
    fn poll(&mut self, _limit: usize, into: &mut Vec<Record>) -> Result<Ready, SourceError> {
        into.append(&mut self.0);
        Ok(Ready::Done)
    }

    fn partitions(&self) -> Vec<Partition> {
        vec![0, 1]
    }
}

fn record(partition: Partition, offset: u64) -> Record {
    let text = format!("{{\"id\":\"{partition}-{offset}\",\"text\":\"{}\"}}", "x".repeat(offset as usize % 50));
    let payload = match offset % 5 {
        0 => Payload::Tombstone { key: text.into_bytes() },
        1 | 2 => {
            let header = CsvHeader::parse(if offset.is_multiple_of(2) { b"a,b" } else { b"a,c,d" }).expect("a header");
            Payload::Csv { header: Arc::new(header), line: text.into_bytes() }
        }
        _ => Payload::Json(text.into_bytes()),
    };
    Record {
        partition,
        offset,
        timestamp_ms: 7,
        arrived_ns: 0,
        stand: Stand { line: offset + 1, cut_bytes: 2 },
        payload,
    }
}

fn shown(record: &Record) -> String {
    format!("{:?}", Record { arrived_ns: 0, ..record.clone() })
}

fn binding(epoch: Epoch, upper: u64) -> Binding {
    Binding {
        epoch,
        uppers: [(Lane::of_events(0), upper), (Lane::of_events(1), upper)].into(),
        refused: vec![(Lane::of_events(1), 3)],
        watermark_ms: epoch as i64 * 1000,
        repair: Repair::default(),
        merging: true,
        dump: None,
        control: None,
        stop: false,
        last: false,
    }
}

fn past(directory: &Path) -> JournalPast {
    JournalPast::open(&Disk::real(), directory, Some(&Terms::default()), 0, BTreeMap::new()).expect("a journal")
}

/// Writes epochs of ten records of each partition, one after the other.
fn write(journal: &Journal, epochs: std::ops::Range<Epoch>) {
    let (mut inputs, log) = (journal.inputs(), journal.bindings());
    for epoch in epochs {
        for offset in epoch * 10..(epoch + 1) * 10 {
            [0, 1].iter().for_each(|&partition| inputs.note(&record(partition, offset)).expect("it is noted"));
        }
        while !inputs.hand_over() {
            std::thread::yield_now();
        }
        log.append(binding(epoch, (epoch + 1) * 10)).expect("there is room");
        let durable = std::iter::repeat_with(|| log.durable()).find_map(|durable| {
            std::thread::yield_now();
            durable
        });
        assert_eq!(durable, Some(Ok(binding(epoch, (epoch + 1) * 10))));
    }
}

fn written(directory: &Path, epochs: std::ops::Range<Epoch>) {
    let journal = past(directory).begin(0, Terms::default(), true).expect("it begins");
    write(&journal, epochs);
    journal.finish();
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(directory.join("journal")).expect("a folder");
    let mut paths: Vec<PathBuf> = folder.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// All records of one worker, from the journal and behind it.
fn read(past: &JournalPast, (worker, workers): (usize, usize), live: Vec<Record>) -> Result<Vec<Record>, SourceError> {
    let mut reader = past.resume(worker, workers, Box::new(Live(live)));
    let mut all = Vec::new();
    loop {
        let mut some = Vec::new();
        let ready = reader.poll(7, &mut some)?;
        all.append(&mut some);
        if ready == Ready::Done {
            return Ok(all);
        }
    }
}

fn bindings(past: &JournalPast) -> Result<Vec<Binding>, String> {
    let mut reader = past.bindings();
    std::iter::from_fn(|| reader.next_binding().transpose()).collect()
}

#[test]
fn what_is_written_is_read_again_and_goes_on() {
    let folder = TempDir::new().expect("a folder");
    for run in 0..3 {
        written(folder.path(), run * 20..(run + 1) * 20);
    }
    let past = past(folder.path());
    assert_eq!(past.next(), 60);
    assert_eq!(bindings(&past), Ok((0..60).map(|epoch| binding(epoch, (epoch + 1) * 10)).collect()));
    let starts = past.starts();
    assert_eq!(starts.live, [(0, 599), (1, 599)].into(), "the last one is compared");
    for (worker, workers) in [(0, 1), (1, 2), (0, 2)] {
        // The source begins at the last record that was read.
        let mine = |partition: &Partition| *partition as usize % workers == worker;
        let live =
            [0, 1].into_iter().filter(mine).flat_map(|partition| (599..603).map(move |at| record(partition, at)));
        let all = read(&past, (worker, workers), live.collect()).expect("it is read");
        for partition in [0, 1].into_iter().filter(mine) {
            let of_it = all.iter().filter(|record| record.partition == partition).map(shown);
            let expected: Vec<String> = (0..603).map(|offset| shown(&record(partition, offset))).collect();
            assert_eq!(of_it.collect::<Vec<_>>(), expected);
        }
    }
    // Behind a cut.
    let base: BTreeMap<Partition, u64> = [(0, 450), (1, 450)].into();
    let late = JournalPast::open(&Disk::real(), folder.path(), Some(&Terms::default()), 45, base).expect("a journal");
    assert_eq!(bindings(&late).expect("they are there").first().map(|binding| binding.epoch), Some(45));
    assert_eq!(read(&late, (0, 1), Vec::new()).expect("it is read").len(), 300);
}

#[test]
fn a_source_that_was_made_anew_is_refused() {
    let folder = TempDir::new().expect("a folder");
    written(folder.path(), 0..5);
    let mut other = record(0, 49);
    other.payload = Payload::Json(b"{}".to_vec());
    let error = read(&past(folder.path()), (0, 1), vec![other, record(0, 50)]).expect_err("another record").to_string();
    assert!(error.contains("record 49 of partition 0") && error.contains("--state"), "{error}");
}

#[test]
fn a_torn_end_is_the_end_wherever_it_is_torn() {
    let folder = TempDir::new().expect("a folder");
    written(folder.path(), 0..3);
    let path = segments(folder.path()).remove(0);
    let whole = std::fs::read(&path).expect("a segment");
    let mut ends = Vec::new();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).expect("it is cut");
        let past = past(folder.path());
        let found = bindings(&past).expect("they are in order").len();
        let records = read(&past, (0, 1), Vec::new()).expect("whole records").len();
        assert!(records >= found * 20, "{records} records for {found} epochs at {length} bytes");
        ends.push(found);
        // A file may have grown before its bytes were there; those that are missing may have been zeros.
        std::fs::write(&path, [&whole[..length], &[0; 40][..]].concat()).expect("it has grown");
        let grown = bindings(&self::past(folder.path())).expect("they are in order").len();
        assert!((found..=found + 1).contains(&grown), "{grown} epochs, {found} without zeros, at {length} bytes");
    }
    assert!(ends.is_sorted() && ends.first() == Some(&0) && ends.last() == Some(&2), "{ends:?}");
    // The next run goes on from there.
    std::fs::write(&path, &whole[..whole.len() - 1]).expect("it is cut");
    written(folder.path(), 2..4);
    assert_eq!(bindings(&past(folder.path())).expect("they are in order").len(), 4);
    let records = read(&past(folder.path()), (0, 1), Vec::new()).expect("they are read");
    assert_eq!(records.len(), 80, "records are there once");
}

#[test]
fn a_changed_bit_is_found_and_named() {
    let folder = TempDir::new().expect("a folder");
    written(folder.path(), 0..3);
    written(folder.path(), 3..4);
    let path = segments(folder.path()).remove(0);
    let whole = std::fs::read(&path).expect("a segment");
    for at in (0..whole.len()).step_by(11) {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        std::fs::write(&path, changed).expect("it is changed");
        let error = JournalPast::open(&Disk::real(), folder.path(), Some(&Terms::default()), 0, BTreeMap::new())
            .expect_err("it is damaged");
        let (error, name) = (error.to_string(), path.file_name().expect("a name").to_string_lossy().into_owned());
        assert!(error.contains(&name) && error.contains("at byte") && error.contains("--state"), "{at}: {error}");
    }
    // A segment under another's name, and one that is not there.
    let other = segments(folder.path()).remove(1);
    std::fs::copy(&other, &path).expect("it is copied");
    assert!(JournalPast::open(&Disk::real(), folder.path(), Some(&Terms::default()), 0, BTreeMap::new()).is_err());
    std::fs::remove_file(&path).expect("it is removed");
    let error = bindings(&past(folder.path())).expect_err("epochs are missing");
    assert!(error.contains("no epoch 0"), "{error}");
}

#[test]
fn it_is_written_under_its_own_terms_only() {
    let folder = TempDir::new().expect("a folder");
    written(folder.path(), 0..1);
    let mut terms = Terms::default();
    terms.add("--horizon", "2h");
    let error = JournalPast::open(&Disk::real(), folder.path(), Some(&terms), 0, BTreeMap::new())
        .expect_err("other terms")
        .to_string();
    assert!(error.contains("--horizon is `2h`, but it was written with `-`"), "{error}");
}

#[test]
fn segments_that_a_cut_covers_are_dropped() {
    let folder = TempDir::new().expect("a folder");
    for run in 0..5 {
        written(folder.path(), run * 2..(run + 1) * 2);
    }
    let journal = past(folder.path()).begin(0, Terms::default(), true).expect("it begins");
    let release = |epoch, upper, kept_from_ms| {
        let uppers = [(0, upper), (1, upper)].into();
        journal.bindings().release(Covered { epoch, uppers, kept_from_ms });
    };
    // Epoch 5 is covered, a record of it is not; then all, but what is younger than four seconds is kept.
    release(5, 59, i64::MAX);
    write(&journal, 10..11);
    assert_eq!(segments(folder.path()).len(), 6 - 2);
    release(8, 90, 5_000);
    write(&journal, 11..12);
    assert_eq!(segments(folder.path()).len(), 6 - 2);
    release(8, 90, i64::MAX);
    write(&journal, 12..13);
    journal.finish();
    assert_eq!(segments(folder.path()).len(), 6 - 4);
    let base: BTreeMap<Partition, u64> = [(0, 90), (1, 90)].into();
    let late = JournalPast::open(&Disk::real(), folder.path(), Some(&Terms::default()), 9, base).expect("a journal");
    assert_eq!(bindings(&late).expect("they are there").len(), 4);
    assert_eq!(read(&late, (0, 1), Vec::new()).expect("it is read").len(), 80);
}

#[test]
fn records_of_a_run_that_bound_nothing_are_kept_as_long_as_what_binds_them() {
    let folder = TempDir::new().expect("a folder");
    // Killed before it bound anything: its records are there, and the next run reads on behind them.
    let journal = past(folder.path()).begin(0, Terms::default(), true).expect("it begins");
    let mut inputs = journal.inputs();
    (0..10).flat_map(|at| [(0, at), (1, at)]).for_each(|(partition, at)| {
        inputs.note(&record(partition, at)).expect("it is noted");
    });
    assert!(inputs.hand_over());
    drop(inputs);
    journal.finish();
    // Killed before it read anything.
    written(folder.path(), 0..0);
    written(folder.path(), 0..2);
    let journal = past(folder.path()).begin(0, Terms::default(), true).expect("it begins");
    let release = |kept_from_ms| {
        let uppers = [(0, 20), (1, 20)].into();
        journal.bindings().release(Covered { epoch: 1, uppers, kept_from_ms });
    };
    release(0);
    write(&journal, 2..3);
    assert_eq!(segments(folder.path()).len(), 4);
    assert!(JournalPast::is_whole(&Disk::real(), folder.path(), &Terms::default()).expect("a journal"));
    assert_eq!(read(&past(folder.path()), (0, 1), Vec::new()).expect("it is read").len(), 60);
    release(i64::MAX);
    write(&journal, 3..4);
    journal.finish();
    assert_eq!(segments(folder.path()).len(), 1);
    assert!(!JournalPast::is_whole(&Disk::real(), folder.path(), &Terms::default()).expect("a journal"));
}

#[test]
fn what_was_bound_before_event_time_was_known_is_not_old() {
    let folder = TempDir::new().expect("a folder");
    // A partition has said nothing yet, and the run is killed.
    let journal = past(folder.path()).begin(0, Terms::default(), true).expect("it begins");
    let unknown = Binding { watermark_ms: i64::MIN, ..binding(0, 0) };
    assert!(journal.bindings().append(unknown).is_ok());
    journal.finish();
    let journal = past(folder.path()).begin(0, Terms::default(), true).expect("it begins");
    let release = |kept_from_ms| {
        journal.bindings().release(Covered { epoch: 0, uppers: [(0, 20), (1, 20)].into(), kept_from_ms });
    };
    release(1_000);
    write(&journal, 1..2);
    release(1_000);
    write(&journal, 2..3);
    assert_eq!(segments(folder.path()).len(), 2);
    assert!(JournalPast::is_whole(&Disk::real(), folder.path(), &Terms::default()).expect("a journal"));
    // It goes with what came next.
    release(i64::MAX);
    write(&journal, 3..4);
    journal.finish();
    assert_eq!(segments(folder.path()).len(), 1);
}

#[test]
fn offsets_alone_are_read_from_the_source_again() {
    let folder = TempDir::new().expect("a folder");
    let journal = past(folder.path()).begin(0, Terms::default(), false).expect("it begins");
    write(&journal, 0..3);
    journal.finish();
    let past = past(folder.path());
    assert_eq!(bindings(&past).expect("they are there").len(), 3);
    assert!(past.starts().live.is_empty(), "the source is read from its beginning");
    let all = |from: u64| (0..40).filter(move |&at| at >= from).map(|at| record(0, at)).collect::<Vec<_>>();
    assert_eq!(read(&past, (0, 1), all(0)).expect("it is read").len(), 40);
    let mut other = all(0);
    other[29].payload = Payload::Json(b"{}".to_vec());
    assert!(read(&past, (0, 1), other).is_err(), "the last record of before is another one");
}
