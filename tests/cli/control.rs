//! The control stream: what decides changes while the engine runs, at the same event everywhere.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::cluster::hosts;
use super::live::{Run, get, health};
use super::{done, output, path, read};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("one JSON object")).collect()
}

/// The same lines in an order of their own.
fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn rule(id: &str, version: u32, when: &str, action: &str) -> Value {
    json!({"version": 1, "op": "rule", "id": format!("m-{id}"), "by": "a test",
        "rule": {"id": id, "version": version, "when": when, "action": action, "reason": "to see it match"}})
}

fn at(time_ms: i64, mut message: Value) -> Value {
    let time = jiff::Timestamp::from_millisecond(time_ms).expect("a time");
    message["time"] = json!(time.to_string());
    message
}

fn written(file: &str, messages: &[Value]) {
    let text: String = messages.iter().map(|message| format!("{message}\n")).collect();
    fs::write(file, text).expect("a file");
}

const GENERATED: [&str; 7] = ["replay", "--input", "generator", "--events", "6000", "--rate", "0.5"];

/// Every message of a replay takes effect before the first event whose time is not before its own.
#[test]
fn messages_take_effect_at_their_time_whatever_the_workers() {
    let folder = tempfile::tempdir().expect("a folder");
    let (control, replies) = (path(&folder, "control.jsonl"), path(&folder, "replies.jsonl"));
    let plain = lines(&done(&[&GENERATED[..], &["--output", "-"]].concat()));
    let times: Vec<i64> = plain.iter().map(|line| line["event_time"].as_i64().expect("a time")).collect();
    let (first, last) = (*times.iter().min().expect("some"), *times.iter().max().expect("some"));
    let time = |share: f64| first + ((last - first) as f64 * share) as i64;
    let exactly = times[times.len() / 2];
    let messages = [
        rule("always", 1, "true", "tag"),
        at(time(0.2), rule("dear", 1, "event.amount > 50.0", "review")),
        at(time(0.3), json!({"version": 1, "op": "rule-mode", "rule": "dear", "mode": "shadow"})),
        at(time(0.4), json!({"version": 1, "op": "rule-mode", "rule": "dear", "mode": "active"})),
        at(time(0.4), rule("dear", 2, "event.amount > 100.0", "block")),
        at(exactly, json!({"version": 1, "op": "thresholds", "review": 0.1, "block": 0.2})),
        at(time(0.7), json!({"version": 1, "op": "rules-restore", "deployment": 2})),
        at(time(0.9), json!({"version": 1, "op": "model", "model": "payments@1", "role": "champion"})),
        at(last + 1, json!({"version": 1, "op": "rules", "rules": []})),
    ];
    written(&control, &messages);
    let run = |workers: &str, more: &[&str]| {
        let flags = ["--workers", workers, "--control", &control, "--output", "-", "--late-share", "0"];
        done(&[&GENERATED[..], &flags, more].concat())
    };
    let said = run("1", &["--control-replies", &replies]);
    for workers in ["2", "4"] {
        assert_eq!(sorted(&run(workers, &[])), sorted(&said), "{workers} workers say other things");
    }
    // Those at 0.4 are one group.
    let switches = [i64::MIN, time(0.2), time(0.3), time(0.4), exactly, time(0.7), time(0.9)];
    let mut seen = [0; 8];
    for line in lines(&said).iter().filter(|line| line["revision"] == 0 && line["diff"] == 1) {
        let (decision, event_ms) = (&line["decision"], line["event_time"].as_i64().expect("a time"));
        let deployment = switches.iter().filter(|switch| **switch <= event_ms).count();
        assert_eq!(decision["deployment"], deployment, "{line}");
        seen[deployment] += 1;
        let rules: Vec<&str> =
            decision["rules"].as_array().expect("a list").iter().map(|rule| rule.as_str().expect("a name")).collect();
        assert!(rules.contains(&"always@1"), "{line}");
        // Deployment 6 has the rules of 2 again, and so have those behind it.
        assert!(!rules.contains(&"dear@1") || [2, 6, 7].contains(&deployment), "{line}");
        assert!(!rules.contains(&"dear@2") || [4, 5].contains(&deployment) && decision["action"] == "block", "{line}");
        assert_eq!(decision["model"], if deployment < 7 { "payments@2" } else { "payments@1" }, "{line}");
        if deployment == 5 && decision["score"].as_f64() >= Some(0.2) {
            assert_eq!(decision["action"], "block", "{line}");
        }
    }
    assert!(seen[1..].iter().all(|count| *count > 50), "{seen:?}");
    let replies = lines(&read(&replies));
    assert_eq!(replies.len(), messages.len());
    assert!(replies.iter().all(|reply| reply["status"] == "applied"), "{replies:?}");
    assert_eq!((&replies[0]["id"], &replies[0]["by"]), (&json!("m-always"), &json!("a test")));
}

/// A transaction is assessed under the deployment of its arrival for ever.
#[test]
fn a_new_rule_revises_nothing_of_the_past() {
    let folder = tempfile::tempdir().expect("a folder");
    let control = path(&folder, "control.jsonl");
    let more = ["--late-share", "0.3", "--correction-share", "0.2", "--output", "-"];
    let plain = lines(&done(&[&GENERATED[..], &more].concat()));
    let middle = plain[plain.len() / 2]["event_time"].as_i64().expect("a time");
    written(&control, &[at(middle, rule("always", 1, "true", "review"))]);
    let ruled = lines(&done(&[&GENERATED[..], &more, &["--control", &control]].concat()));
    let count = |lines: &[Value]| lines.iter().filter(|line| line["revision"] != 0).count();
    assert!(count(&plain) > 30, "{} revisions", count(&plain));
    let (mut under, mut not) = (0, 0);
    for line in ruled.iter().filter(|line| !line["assessment"].is_null()) {
        let matched = line["assessment"]["rules"] == json!(["always@1"]);
        assert_eq!(matched, line["decision"]["deployment"] == 1, "{line}");
        (under, not) = (under + usize::from(matched), not + usize::from(!matched));
    }
    assert!(under > 1000 && not > 1000, "{under} {not}");
}

#[test]
fn wrong_messages_are_refused_with_the_reason_and_the_old_state_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let (control, replies) = (path(&folder, "control.jsonl"), path(&folder, "replies.jsonl"));
    let model = |name: &str, role: &str, share: f64| json!({"version": 1, "op": "model", "model": name, "role": role, "share": share});
    let wrong = [
        ("{\"version\": 1".to_owned(), "1:13: EOF while parsing an object"),
        ("[1]".to_owned(), "1:0: invalid type: sequence, expected a map"),
        (
            json!({"version": 2, "op": "rule-delete", "rule": "x"}).to_string(),
            "its version is 2, and this program reads version 1",
        ),
        (json!({"op": "rule-delete", "rule": "x"}).to_string(), "missing field `version`"),
        (json!({"version": 1, "rule": "x"}).to_string(), "has no `op`"),
        (json!({"version": 1, "op": "rule-erase", "rule": "x"}).to_string(), "unknown variant `rule-erase`"),
        (json!({"version": 1, "op": "rule-delete", "rule": "x", "why": "y"}).to_string(), "unknown field `why`"),
        (
            json!({"version": 1, "op": "rule-delete", "rule": "ruel"}).to_string(),
            "there is no rule `ruel`; did you mean `rule`?",
        ),
        (
            rule("rule", 1, "event.amount > 1.0", "block").to_string(),
            "rule rule@1 has another condition; count its version up",
        ),
        (
            rule("typo", 1, "event.amuont > 1.0", "block").to_string(),
            "when: 1:6: no field of the event is called `amuont`; did you mean `amount`?",
        ),
        (rule("type", 1, "event.amount", "block").to_string(), "when: 1:1: is a double and not a bool"),
        (rule("bomb", 1, &"(".repeat(5_000), "block").to_string(), "when: "),
        (
            json!({"version": 1, "op": "thresholds", "review": 0.9, "block": 0.1}).to_string(),
            "they are between 0 and 1, review <= challenge <= block",
        ),
        (model("nowhere", "shadow", 0.0).to_string(), "nowhere"),
        (model("payments@9", "shadow", 0.0).to_string(), "there are versions 1, 2"),
        (model("handbook", "shadow", 0.0).to_string(), "feature"),
        (model("payments@2", "shadow", 0.0).to_string(), "payments@2 is the champion; make another one champion first"),
        (
            model("payments@1", "challenger", 0.0).to_string(),
            "share: a challenger decides on a share above 0 and at most 1",
        ),
        (json!({"version": 1, "op": "model-delete", "model": "payments@2"}).to_string(), "payments@2 is the champion"),
        (
            json!({"version": 1, "op": "model-delete", "model": "payments@1"}).to_string(),
            "there is no model `payments@1`; there are payments@2",
        ),
    ];
    let mut text = format!("{}\n\n", rule("rule", 1, "true", "review"));
    wrong.iter().for_each(|(line, _)| text.push_str(&format!("{line}\n")));
    fs::write(&control, text).expect("a file");
    let flags = ["--events", "300", "--control", &control, "--control-replies", &replies, "--output", "-"];
    let said = done(&[&["replay"][..], &flags].concat());
    assert!(
        lines(&said)
            .iter()
            .all(|line| line["decision"]["rules"] == json!(["rule@1"]) && line["decision"]["deployment"] == 1)
    );
    let mut replies = lines(&read(&replies));
    replies.sort_by_key(|reply| reply["offset"].as_u64());
    assert_eq!(replies.len(), wrong.len() + 1);
    assert_eq!(replies[0]["status"], "applied");
    for (reply, (line, reason)) in replies[1..].iter().zip(&wrong) {
        assert_eq!(reply["status"], "refused", "{line}");
        let said = reply["reason"].as_str().expect("a text");
        assert!(said.contains(reason) && !said.contains('\n'), "{line}: {said}");
    }
    // What cannot be read ends a replay, and does not hang it.
    let directory = folder.path().to_str().expect("UTF-8");
    let unread = output(&["replay", "--events", "10", "--control", directory, "--output", "-"]);
    let error = String::from_utf8_lossy(&unread.stderr);
    assert_eq!(unread.status.code(), Some(1), "{error}");
    assert!(error.contains(&format!("error: --control {directory}: ")), "{error}");
    let rules = path(&folder, "rules.toml");
    fs::copy("dataflows/payments_rules.toml", &rules).expect("a copy");
    for (flags, named) in [
        (["--control", &control, "--control-replies", &control], "--control-replies"),
        (["--control", &control, "--output", &control], "--output"),
        (["--rules", &rules, "--output", &rules], "--output"),
    ] {
        let same = output(&[&["replay", "--events", "10", "--overwrite"][..], &flags].concat());
        let error = String::from_utf8_lossy(&same.stderr);
        assert_eq!(same.status.code(), Some(2), "{error}");
        assert!(error.contains(named), "{error}");
    }
    assert!(read(&rules).contains("card-testing"));
    let missing = output(&["replay", "--events", "10", "--control", "/nowhere/control.jsonl"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("--control"));
}

/// Challengers decide on their share, and every model scores everything.
#[test]
fn a_challenger_decides_on_its_share() {
    let folder = tempfile::tempdir().expect("a folder");
    let control = path(&folder, "control.jsonl");
    written(
        &control,
        &[json!({"version": 1, "op": "model", "model": "payments@1", "role": "challenger", "share": 0.25})],
    );
    let run = |workers: &str| {
        done(&[&GENERATED[..], &["--control", &control, "--output", "-", "--workers", workers]].concat())
    };
    let said = run("1");
    assert_eq!(sorted(&run("2")), sorted(&said));
    let lines = lines(&said);
    let first: Vec<&Value> = lines.iter().filter(|line| line["revision"] == 0 && line["diff"] == 1).collect();
    let challenged = first.iter().filter(|line| line["decision"]["model"] == "payments@1").count();
    let share = challenged as f64 / first.len() as f64;
    assert!((share - 0.25).abs() < 0.03, "{share}");
    for line in first {
        let (decision, scores) = (&line["decision"], &line["assessment"]["scores"]);
        assert_eq!(scores.as_object().map(serde_json::Map::len), Some(2));
        assert_eq!(decision["score"], scores[decision["model"].as_str().expect("a name")], "{line}");
    }
}

/// Adds messages to a file while a run goes on.
struct Controlled {
    file: File,
    replies: String,
    count: usize,
}

impl Controlled {
    fn new(control: &str, replies: String) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(control).expect("a file");
        Controlled { file, replies, count: 0 }
    }

    fn say(&mut self, message: &Value) {
        writeln!(self.file, "{message}").expect("a file");
        self.count += 1;
    }

    /// Until every message has its reply.
    fn wait(&self) {
        self.wait_until(|replies| replies.lines().count() >= self.count);
    }

    /// Until this message has its reply.
    fn wait_for(&self, id: &str) {
        self.wait_until(|replies| replies.contains(&format!("\"{id}\"")));
    }

    fn wait_until(&self, done: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !fs::read_to_string(&self.replies).is_ok_and(|replies| done(&replies)) {
            assert!(Instant::now() < deadline, "no reply");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Random changes under load, on two workers and two processes that are killed in between: what was said is what the journal gives.
#[test]
fn random_changes_survive_kills_and_are_repeated_bit_by_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| path(&folder, name);
    let (state, out, control, replies) =
        (file("state"), file("out.jsonl"), file("control.jsonl"), file("replies.jsonl"));
    let changes = if std::env::var_os("DELTAWATCH_FULL").is_some() { 10_000 } else { 300 };
    let mut controlled = Controlled::new(&control, replies.clone());
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let input = ["--input", "generator", "--events", "1000000", "--rate", "0.5", "--state", &state];
    let flags = ["--output", &out, "--control", &control, "--control-replies", &replies, "--cut-every", "200ms"];
    let start =
        |workers: &str| Run::start(&[&["run", "--pace", "5000", "--workers", workers][..], &input, &flags].concat());
    let mut versions = [1_u32; 20];
    for round in 0..3 {
        let run = start(["1", "2", "2"][round]);
        controlled.say(&rule(&format!("round-{round}"), 1, "true", "tag"));
        controlled.wait_for(&format!("m-round-{round}"));
        for _ in 0..changes / 3 {
            let place = random.random_range(0..20);
            let id = format!("r{place}");
            let mode = ["active", "shadow", "paused"][random.random_range(0..3)];
            let message = match random.random_range(0..10) {
                0..5 => {
                    versions[place] += 1;
                    let when = format!("event.amount > {}.0", random.random_range(1..400));
                    rule(
                        &id,
                        versions[place],
                        &when,
                        ["tag", "review", "challenge", "block"][random.random_range(0..4)],
                    )
                }
                5..7 => {
                    json!({"version": 1, "op": "rule-mode", "rule": id, "mode": mode})
                }
                7 => json!({"version": 1, "op": "rule-delete", "rule": id}),
                8 => {
                    json!({"version": 1, "op": "thresholds", "review": random.random_range(0.1..0.5), "block": random.random_range(0.5..0.9)})
                }
                _ => json!({"version": 1, "op": "model", "model": "payments@1", "role": "shadow"}),
            };
            controlled.say(&message);
            if random.random_range(0..8) == 0 {
                std::thread::sleep(Duration::from_millis(random.random_range(1..60)));
            }
        }
        if round < 2 {
            run.signal("-KILL");
            drop(run.end());
        } else {
            // What was bound and not replied to is not replied to again: the last message of all says that it was reached.
            controlled.say(&rule("last", 1, "true", "tag"));
            controlled.wait_for("m-last");
            std::thread::sleep(Duration::from_millis(300));
            run.signal("-TERM");
            let (status, _, error) = run.end();
            assert!(status.success(), "{error}");
        }
    }
    let said = sorted(&read(&out));
    assert!(said.windows(2).all(|pair| pair[0] != pair[1]), "a line is there twice");
    let lines = lines(&read(&out));
    let deployments: std::collections::BTreeSet<_> =
        lines.iter().filter_map(|line| line["decision"]["deployment"].as_u64()).collect();
    // Messages that wait are one group; a busy machine makes few.
    assert!(deployments.len() > 4, "{deployments:?}");
    assert!(
        lines
            .iter()
            .any(|line| line["decision"]["rules"].as_array().is_some_and(|rules| rules.contains(&json!("last@1"))))
    );
    let again = [&["verify", "--output", &out][..], &input, &["--control", &control]].concat();
    assert!(done(&again).starts_with("equal"), "the journal gives other decisions");
}

/// Both processes of a cluster switch at the same epoch, and a model that one of them lacks is refused by all.
#[test]
fn processes_switch_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| path(&folder, name);
    let (state, out, control, replies) =
        (file("state"), file("out.jsonl"), file("control.jsonl"), file("replies.jsonl"));
    let hosts = hosts().join(",");
    let mut controlled = Controlled::new(&control, replies.clone());
    let own = file("models");
    fs::create_dir_all(format!("{own}/payments")).expect("a folder");
    // The second process has version 2 alone.
    let copied =
        std::process::Command::new("cp").args(["-r", "models/payments/2", &format!("{own}/payments/2")]).status();
    assert!(copied.expect("cp starts").success());
    let start = |process: &str, models: &str| {
        let flags = ["run", "--pace", "3000", "--rate", "0.5", "-n", "2", "-p", process, "--host", &hosts];
        let more = ["--state", &state, "--output", &out, "--control", &control, "--control-replies", &replies];
        Run::start(&[&flags[..], &more, &["--models", models]].concat())
    };
    let runs = [start("0", "models"), start("1", &own)];
    controlled.say(&rule("always", 1, "true", "tag"));
    controlled.wait();
    controlled.say(&json!({"version": 1, "op": "model", "model": "payments@1", "role": "champion"}));
    controlled.wait();
    controlled.say(&rule("after", 1, "true", "tag"));
    controlled.wait();
    std::thread::sleep(Duration::from_millis(500));
    runs.iter().for_each(|run| run.signal("-TERM"));
    for run in runs {
        let (status, _, error) = run.end();
        assert!(status.success(), "{error}");
    }
    let replies = lines(&read(&replies));
    assert_eq!(
        replies.iter().map(|reply| &reply["status"]).collect::<Vec<_>>(),
        ["applied", "refused", "applied"],
        "{replies:?}"
    );
    assert!(replies[1]["reason"].as_str().expect("a reason").contains("there are versions 2"), "{replies:?}");
    let epochs = [&replies[0]["epoch"], &replies[2]["epoch"]].map(|epoch| epoch.as_u64().expect("an epoch"));
    for process in ["0", "1"] {
        let text = read(path(&folder, &format!("out-{process}.jsonl")).as_str());
        let (mut before, mut after) = (0, 0);
        for line in lines(&text).iter().filter(|line| line["revision"] == 0 && line["diff"] == 1) {
            let epoch = line["epoch"].as_u64().expect("an epoch");
            let rules = line["decision"]["rules"].as_array().expect("a list");
            assert_eq!(rules.contains(&json!("always@1")), epoch >= epochs[0], "{line}");
            assert_eq!(rules.contains(&json!("after@1")), epoch >= epochs[1], "{line}");
            assert_eq!(line["decision"]["model"], "payments@2");
            (before, after) = (before + usize::from(epoch < epochs[1]), after + usize::from(epoch >= epochs[1]));
        }
        assert!(before > 0 && after > 0, "{before} {after}");
    }
}

/// The tour of the README, command by command, beside a run.
#[test]
fn the_tour_of_the_readme_works() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| path(&folder, name);
    let (control, replies) = (at("control.jsonl"), at("replies.jsonl"));
    let text = read("README.md");
    let section =
        text.split("## Changing what decides").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a section");
    let here = |command: &str| {
        let names = ["control.jsonl", "replies.jsonl", "scores.jsonl", "state/"];
        let placed = names.iter().fold(command.to_owned(), |text, name| text.replace(name, &at(name)));
        placed.replace("my_rules.toml", "dataflows/payments_rules.toml").replace("--metrics 9184", "--metrics 0")
    };
    fs::write(&control, "").expect("a file");
    let (mut run, mut sent, mut asked) = (None, 0, 0);
    for command in section.lines().filter_map(|line| line.strip_prefix("deltawatch ")) {
        let command = here(command.split('#').next().unwrap_or_default());
        let words: Vec<&str> = command.split_whitespace().collect();
        if words[0] == "run" {
            let (started, address) = Run::start(&words).with_page();
            let scored = || health(&address, "/health").1["events"].as_u64() > Some(3_000);
            let deadline = Instant::now() + Duration::from_secs(60);
            while !scored() {
                assert!(Instant::now() < deadline, "nothing is scored");
                std::thread::sleep(Duration::from_millis(20));
            }
            run = Some((started, address));
            continue;
        }
        let said = done(&words);
        match words[..2] {
            ["rules", "ask"] => assert!(said.contains("    hits          "), "{said}"),
            ["explain", _] => assert!(said.contains("decided   block"), "{said}"),
            ["rules", "check"] => assert!(said.contains("rules are right"), "{said}"),
            _ => {
                sent += 1;
                let messages = read(&control).lines().count();
                let deadline = Instant::now() + Duration::from_secs(60);
                while fs::read_to_string(&replies).map_or(0, |text| text.lines().count()) < messages {
                    assert!(Instant::now() < deadline, "no reply to {command}");
                    std::thread::sleep(Duration::from_millis(10));
                }
                continue;
            }
        }
        asked += 1;
    }
    assert!(sent >= 8 && asked >= 3, "{sent} {asked}");
    let replies = lines(&read(&replies));
    assert!(replies.len() > 30, "{}", replies.len());
    assert!(replies.iter().all(|reply| reply["status"] == "applied"), "{replies:?}");
    assert!(replies.iter().any(|reply| reply["by"] == "anna"));
    let (run, address) = run.expect("a run");
    std::thread::sleep(Duration::from_millis(500));
    let metrics = get(&address, "/metrics");
    assert!(metrics.contains("deltawatch_rule_hits_total{rule="), "{metrics}");
    run.signal("-TERM");
    let (status, _, error) = run.end();
    assert!(status.success(), "{error}");
    // What the run has kept explains it, too, under the deployments that were in force.
    let id = "t-000000873";
    assert!(done(&["explain", id, "--state", &at("state/")]).contains("decided   block"));
    let lines = lines(&read(at("scores.jsonl").as_str()));
    assert!(lines.iter().any(|line| line["decision"]["model"] == "payments@1"));
    assert!(lines.iter().any(|line| line["decision"]["rules"].as_array().is_some_and(|rules| !rules.is_empty())));
}
