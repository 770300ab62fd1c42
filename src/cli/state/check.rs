//! What a state directory holds, with every checksum verified.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::super::error::Failure;
use super::super::progress::grouped;
use crate::disk::Disk;
use crate::epoch::journal::{JournalPast, SegmentFigures};
use crate::runtime::cut::{CutManifest, Loaded, load};

/// Says what a directory holds. What is damaged ends it with an error that names file and offset.
pub fn run(directory: &Path, as_json: bool) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
    let disk = Disk::real();
    let manifest = CutManifest::read(&disk, directory).map_err(|error| failed(&error))?;
    let cuts = manifest.cuts.iter().map(|&cut| load(&disk, directory, cut, None).map(|loaded| (cut.processes, loaded)));
    let cuts: Vec<(usize, Loaded)> = cuts.collect::<Result<_, _>>().map_err(|error| failed(&error))?;
    let past = JournalPast::open(&disk, directory, None, 0, BTreeMap::new()).map_err(|error| failed(&error))?;
    let segments: Vec<SegmentFigures> = past.segments().iter().map(|segment| segment.figures()).collect();
    if segments.is_empty() && cuts.is_empty() {
        let shown = directory.display();
        return Err(Failure::Usage(format!("{shown}: holds no state; name the directory that a run had as --state")));
    }
    if as_json {
        print_json(&segments, &cuts)
    } else {
        print_text(&segments, &cuts)
    }
    Ok(())
}

fn print_json(segments: &[SegmentFigures], cuts: &[(usize, Loaded)]) {
    let segment = |one: &SegmentFigures| {
        json!({
            "name": one.name, "bytes": one.bytes, "torn_bytes": one.torn_bytes, "records": one.records,
            "record_bytes": one.record_bytes, "first_epoch": one.epochs.map(|(first, _)| first),
            "last_epoch": one.epochs.map(|(_, last)| last), "watermark_ms": one.watermark_ms,
        })
    };
    let cut = |(processes, loaded): &(usize, Loaded)| {
        let facts = loaded.image.facts();
        let lanes: BTreeMap<String, u64> =
            loaded.ends.iter().map(|(lane, end)| (lane.to_string(), end.upper)).collect();
        json!({
            "epoch": facts.epoch, "watermark_ms": facts.watermark_ms, "processes": processes, "lanes": lanes,
            "bytes": loaded.image.bytes(),
        })
    };
    let terms = segments.iter().rev().find_map(|segment| segment.terms.as_ref());
    let whole = json!({
        "journal": segments.iter().map(segment).collect::<Vec<_>>(),
        "cuts": cuts.iter().map(cut).collect::<Vec<_>>(),
        "terms": terms,
    });
    println!("{whole}");
}

fn print_text(segments: &[SegmentFigures], cuts: &[(usize, Loaded)]) {
    let sum = |of: fn(&SegmentFigures) -> u64| segments.iter().map(of).sum::<u64>();
    let (bytes, records, unpacked) = (sum(|one| one.bytes), sum(|one| one.records), sum(|one| one.record_bytes));
    let first = segments.iter().filter_map(|one| one.epochs).map(|(first, _)| first).min();
    let last = segments.iter().filter_map(|one| one.epochs).map(|(_, last)| last).max();
    let epochs = first
        .zip(last)
        .map_or("no epoch".to_owned(), |(first, last)| format!("epochs {} to {}", grouped(first), grouped(last)));
    let (segments_count, records, bytes) = (segments.len(), grouped(records), grouped(bytes));
    println!(
        "journal   {segments_count} segments, {bytes} bytes, {records} records of {} bytes, {epochs}",
        grouped(unpacked)
    );
    if let Some(watermark_ms) = segments.iter().map(|one| one.watermark_ms).max().filter(|&ms| ms > i64::MIN) {
        println!("span      event time up to {}", time(watermark_ms));
    }
    for one in segments.iter().filter(|one| one.torn_bytes > 0) {
        println!("torn      {} has {} bytes at its end that its writer did not finish", one.name, one.torn_bytes);
    }
    for (processes, loaded) in cuts {
        let facts = loaded.image.facts();
        let views = loaded.image.bytes();
        let all: usize = views.values().sum();
        let views: Vec<String> =
            views.iter().map(|(view, bytes)| format!("{view} {}", grouped(*bytes as u64))).collect();
        println!(
            "cut       epoch {}, watermark {}, {processes} processes, {} bytes: {}",
            grouped(facts.epoch),
            time(facts.watermark_ms),
            grouped(all as u64),
            views.join(", ")
        );
    }
    for (name, value) in
        segments.iter().rev().find_map(|one| one.terms.as_ref()).into_iter().flat_map(|terms| terms.all())
    {
        println!("written   with {name} `{value}`");
    }
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |time| time.to_string())
}
