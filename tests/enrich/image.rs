//! Tables of look-ups written down by key, and read again by as many workers as there are then.

use std::sync::Arc;

use deltawatch::event::{Id, Key, Lane, Schema};
use deltawatch::flow::reference::{Body, NO_TIME};
use deltawatch::flow::{ReferenceRecord, owner_of};
use deltawatch::views::lookup::{Enrich, EnrichPlan, LookupImage, LookupTable, Networks, NetworksImage};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{networks, reference};
use crate::cases::TINY;

/// How long lookers are kept.
const KEPT_MS: i64 = 1_000;

/// One look-up, cut by key over so many workers.
struct Workers {
    plan: EnrichPlan,
    tables: Vec<LookupTable>,
}

fn place(key: Key, workers: usize) -> usize {
    owner_of(key.route(), workers)
}

impl Workers {
    fn new(look_up: &Enrich, workers: usize) -> Self {
        let schema = Arc::new(Schema::parse("tiny", TINY).expect("a valid schema"));
        let plan = EnrichPlan::resolve(look_up, &schema).expect("a valid look-up");
        let tables = (0..workers).map(|_| LookupTable::new(&plan, KEPT_MS)).collect();
        Workers { plan, tables }
    }

    fn of(&mut self, key: Key) -> &mut LookupTable {
        let place = place(key, self.tables.len());
        &mut self.tables[place]
    }

    fn apply(&mut self, step: &Step) -> String {
        match *step {
            Step::Record(ref record) => match record.body {
                Body::Row(key, _) | Body::Gone(key) => format!("{:?}", self.of(key).apply(record.clone())),
                Body::Networks(_) => {
                    self.tables.iter_mut().map(|table| format!("{:?}", table.apply(record.clone()))).collect()
                }
            },
            Step::Look(key, time, id) => {
                self.of(key).look(key, (time, id));
                String::new()
            }
            Step::LookAway(key, time, id) => {
                self.of(key).look_away(key, (time, id));
                String::new()
            }
            Step::Expire(watermark) => {
                self.tables.iter_mut().for_each(|table| table.expire(watermark));
                String::new()
            }
        }
    }

    /// All that can be asked of a key.
    fn answer(&mut self, key: Key) -> String {
        let mut row = vec![0.0; self.plan.columns.len()];
        let place = place(key, self.tables.len());
        let table = &self.tables[place];
        table.answer(&self.plan, key, &mut row);
        let ids: Vec<Id> = table.lookers_after(key, (i64::MIN, Id::default())).map(|(_, id)| id).collect();
        format!("{row:?} {:?} {} {ids:?}", table.row(key), table.is_looked_at(key))
    }

    fn len(&self) -> (usize, usize) {
        let lens = self.tables.iter().map(LookupTable::len);
        lens.fold((0, 0), |(rows, looked), (more, more_looked)| (rows + more, looked + more_looked))
    }

    /// Written down in so many shares by every worker that has some of it, and read by so many others.
    fn moved(&self, look_up: &Enrich, shares: usize, workers: usize) -> Self {
        let mut moved = Workers::new(look_up, workers);
        for share in 0..shares {
            // A share is what keys of one remainder have, as long as shares are a multiple of the workers.
            let images: Vec<LookupImage> =
                self.tables.iter().map(|table| table.dump(|key| place(key, shares) == share)).collect();
            let with = images.iter().filter(|image| !image.rows.is_empty() || !image.lookers.is_empty()).count();
            assert!(with <= 1, "keys of one share are with one worker");
            for image in images {
                let bytes = bincode::serialize(&image).expect("it is written");
                let read: LookupImage = bincode::deserialize(&bytes).expect("it is read");
                assert_eq!(read, image);
                moved.tables[share % workers].load(read);
            }
        }
        let networks = self.tables[0].dump_networks();
        assert!(self.tables.iter().all(|table| table.dump_networks() == networks), "every worker has all of it");
        for table in moved.tables.iter_mut().filter(|_| networks.is_some()) {
            let bytes = bincode::serialize(networks.as_ref().expect("there is one")).expect("it is written");
            let read: NetworksImage = bincode::deserialize(&bytes).expect("it is read");
            table.load_networks(read).expect("it is a file");
        }
        assert_eq!(moved.whole(), self.whole());
        moved
    }

    /// Everything there is, whoever has it.
    fn whole(&self) -> LookupImage {
        let mut whole = LookupImage::default();
        for image in self.tables.iter().map(|table| table.dump(|_| true)) {
            whole.rows.extend(image.rows);
            whole.lookers.extend(image.lookers);
            whole.due.extend(image.due);
        }
        whole.rows.sort();
        whole.lookers.sort();
        whole.due.sort();
        whole
    }
}

/// What may happen to a table.
enum Step {
    Record(ReferenceRecord),
    Look(Key, i64, Id),
    LookAway(Key, i64, Id),
    Expire(i64),
}

fn record(tag: u64, time: i64, offset: u64, body: Body) -> ReferenceRecord {
    ReferenceRecord { to: 0, tag, time, lane: Lane::of_table(0, 0), offset, body }
}

const SHOPS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

/// Rows that come, change and go; who looks and is withdrawn; time that passes. With `by_event` each key is one event, and
/// a row its answer.
fn steps(look_up: &Enrich, by_event: bool, seed: u64, count: usize) -> (Vec<Step>, Vec<Key>) {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut steps, mut looked, mut now_ms) = (Vec::new(), Vec::new(), 10_000);
    let all: Vec<Key> = match by_event {
        true => (0..count as i64).map(Key::from_int).collect(),
        false => SHOPS.iter().map(|shop| Key::from_text(shop)).collect(),
    };
    for at in 0..count {
        now_ms += random.random_range(0..60);
        let near = if by_event { at.saturating_sub(20)..at + 1 } else { 0..all.len() };
        let key = all[random.random_range(near)];
        let late_ms = if random.random_bool(0.2) { random.random_range(0..KEPT_MS + 200) } else { 0 };
        let id = Id::from_int(if by_event { key.lo } else { random.random_range(0..500) });
        steps.push(match random.random_range(0..10) {
            0..3 => {
                let cells: Vec<u64> = (0..3).map(|_| f64::from(random.random_range(0..4)).to_bits()).collect();
                let time = if random.random_bool(0.3) && !by_event { NO_TIME } else { now_ms - late_ms };
                Step::Record(record(look_up.tag(), time, at as u64, Body::Row(key, cells.into())))
            }
            3 => Step::Record(record(look_up.tag(), now_ms, at as u64, Body::Gone(key))),
            4..8 => {
                looked.push((key, now_ms - late_ms, id));
                Step::Look(key, now_ms - late_ms, id)
            }
            8 if !looked.is_empty() => {
                let back = looked.len() - 1 - random.random_range(0..looked.len().min(30));
                let (key, time, id) = looked.swap_remove(back);
                Step::LookAway(key, time, id)
            }
            _ => Step::Expire(now_ms - 100),
        });
    }
    (steps, all)
}

/// Tables go from one worker to two, four and back in the middle of a run, and answer as the one that stays where it is.
fn check(look_up: &Enrich, by_event: bool) {
    let (mut rows, mut lookers, mut due) = (0, 0, 0);
    for seed in 0..20 {
        let (steps, keys) = steps(look_up, by_event, seed, 400);
        let mut random = StdRng::seed_from_u64(seed);
        let mut stays = Workers::new(look_up, 1);
        let mut moves = vec![Workers::new(look_up, 1), Workers::new(look_up, 2), Workers::new(look_up, 4)];
        for (at, step) in steps.iter().enumerate() {
            let wanted = stays.apply(step);
            for one in &mut moves {
                assert_eq!(one.apply(step), wanted, "seed {seed}, step {at}");
            }
            if random.random_bool(0.02) {
                let mut to = || [1, 2, 4][random.random_range(0..3)];
                moves = moves.iter().map(|one| one.moved(look_up, 8, to())).collect();
                let whole = stays.whole();
                (rows, lookers) = (rows.max(whole.rows.len()), lookers.max(whole.lookers.len()));
                due = due.max(whole.due.len());
                assert!(moves.iter().all(|one| one.whole() == whole), "seed {seed}, step {at}");
            }
            for _ in 0..3 {
                let key = keys[random.random_range(0..keys.len().min(at + 1))];
                let wanted = stays.answer(key);
                for one in &mut moves {
                    assert_eq!(one.answer(key), wanted, "seed {seed}, step {at}");
                    assert_eq!(one.len(), stays.len(), "seed {seed}, step {at}");
                }
            }
        }
    }
    assert!(rows > 5 && lookers > 5 && due > 0, "{rows} rows, {lookers} looked at, {due} due");
}

#[test]
fn a_live_table_moves_between_workers() {
    let shops = Enrich::of("shop", &["shop"], reference("shops")).number("risk").or(0.5).number("fee").known().live();
    check(&shops, false);
}

#[test]
fn answers_of_a_service_move_between_workers() {
    let scores = Enrich::of("score", &["shop"], reference("scores")).number("score").or(0.25).known();
    check(&scores, true);
}

#[test]
fn a_network_file_is_read_by_every_worker() {
    let look_up = Enrich::of("ip", &["shop"], reference("networks")).category("country", &["DE", "FR"]).known();
    let addresses = ["10.0.0.1", "10.0.0.2", "2001:db8::1"].map(str::to_owned);
    let mut workers = Workers::new(&look_up, 2);
    let content: Arc<[u8]> = networks::addresses(&addresses, true).into();
    assert!(workers.moved(&look_up, 8, 4).tables.iter().all(|table| table.dump_networks().is_none()));
    workers.apply(&Step::Record(record(look_up.tag(), NO_TIME, 0, Body::Networks(content.clone()))));
    let mut moved = workers.moved(&look_up, 8, 4);
    assert!(moved.tables.iter().all(|table| table.dump_networks().is_some_and(|image| image.content == content)));
    let keys = [0x0a00_0001_u64, 0x0a00_0002, 0x0a00_0003].map(|bits| Key { hi: 0, lo: 0xffff_0000_0000 | bits });
    let answers: Vec<String> = keys.iter().map(|&key| moved.answer(key)).collect();
    assert_eq!(answers, keys.map(|key| workers.answer(key)));
    assert!(answers[0].starts_with("[1.0, 1.0]") && answers[1].starts_with("[2.0, 1.0]"), "{answers:?}");
    assert!(answers[2].starts_with("[NaN, 0.0]"), "{answers:?}");
    let damaged = NetworksImage { content: content[..9].into() };
    let says = moved.tables[0].load_networks(damaged).expect_err("it must be refused");
    assert!(says.contains("no MaxMind-format file"), "{says}");
    assert!(Networks::new(content).is_ok());
}
