//! The simulated disk by itself: what it keeps and what it loses.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;

use deltawatch::disk::{Disk, Opening};
use deltawatch::testkit::disk::{DiskArea, DiskFault, DiskStep, Outage, PlannedFault, SimulatedDisk, StepKind};

fn put(disk: &Disk, path: &str, content: &[u8]) {
    let mut file = disk.open(Path::new(path), Opening::New).expect("it is new");
    file.write_all(content).expect("it is written");
}

/// What a file is after an outage, over many seeds.
fn survives(outage: Outage, prepare: impl Fn(&Disk)) -> BTreeSet<Option<Vec<u8>>> {
    let after = |seed| {
        let simulated = SimulatedDisk::new(seed);
        prepare(&simulated.disk());
        simulated.go_down(outage);
        simulated.come_up();
        simulated.content(Path::new("/a"))
    };
    (0..100).map(after).collect()
}

#[test]
fn what_is_synced_lasts_and_what_is_not_may_be_lost() {
    let all = || BTreeSet::from([Some(b"abc".to_vec())]);
    assert_eq!(survives(Outage::Kill, |disk| put(disk, "/a", b"abc")), all());
    let synced = |disk: &Disk| {
        put(disk, "/a", b"abc");
        disk.open(Path::new("/a"), Opening::Append).expect("it is there").sync().expect("it is synced");
        disk.sync_folder(Path::new("/")).expect("it is synced");
    };
    assert_eq!(survives(Outage::Power, synced), all());
    let lost = survives(Outage::Power, |disk| put(disk, "/a", b"abc"));
    assert!(lost.contains(&None) && lost.contains(&Some(b"ab".to_vec())) && lost.is_superset(&all()), "{lost:?}");
}

#[test]
fn of_a_rename_the_one_or_the_other_is_there() {
    let replaced = |folder_synced: bool| {
        move |disk: &Disk| {
            disk.replace(Path::new("/a"), Path::new("/b"), b"old").expect("it is written");
            let mut file = disk.open(Path::new("/b"), Opening::Empty).expect("it is new");
            file.write_all(b"new").and_then(|()| file.sync()).expect("it is written");
            disk.rename(Path::new("/b"), Path::new("/a")).expect("it is renamed");
            if folder_synced {
                disk.sync_folder(Path::new("/")).expect("it is synced");
            }
        }
    };
    assert_eq!(survives(Outage::Power, replaced(true)), [Some(b"new".to_vec())].into());
    assert_eq!(survives(Outage::Power, replaced(false)), [Some(b"old".to_vec()), Some(b"new".to_vec())].into());
}

#[test]
fn short_reads_and_writes_are_made_up_for() {
    let simulated = SimulatedDisk::new(7);
    let (disk, content) = (simulated.disk(), [7; 10_000]);
    put(&disk, "/a", &content);
    let mut part = disk.open(Path::new("/a"), Opening::Read).expect("it is there");
    let shares: BTreeSet<usize> = (0..200).map(|_| part.read(&mut [0; 40]).expect("it is read")).collect();
    assert!(shares.len() > 3, "{shares:?}");
    for _ in 0..100 {
        assert_eq!(disk.read(Path::new("/a")).expect("it is read"), content);
    }
}

#[test]
fn a_planned_fault_comes_about_at_its_step() {
    let simulated = SimulatedDisk::new(3);
    let (disk, step) = (simulated.disk(), DiskStep { kind: StepKind::Write, area: DiskArea::Directory });
    simulated.plan(Some(PlannedFault { step, nth: 1, fault: DiskFault::Full }));
    put(&disk, "/a", b"a");
    let mut file = disk.open(Path::new("/b"), Opening::New).expect("it is new");
    let error = file.write_all(b"bbbb").expect_err("there is no room");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(disk.read(Path::new("/b")).expect("it is there").len() < 5);
    simulated.plan(Some(PlannedFault { step, nth: 0, fault: DiskFault::After(Outage::Kill) }));
    assert!(file.write_all(b"c").is_err() && disk.read(Path::new("/a")).is_err() && simulated.is_down());
    simulated.come_up();
    assert!(disk.read(Path::new("/b")).expect("it is there").ends_with(b"c"));
    assert!(file.write_all(b"c").is_err(), "whoever had it was killed");
    assert_eq!(simulated.fired().len(), 2);
}
