//! From flags to a job: what was typed is not what will run.
//!
//! Inputs and the state directory are checked before outputs are opened, so that a typing error empties no file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::dataflow::{find, graph};
use super::error::{Failure, usage};
use super::flags::{JobFlags, KafkaFlags, Kept};
use super::outputs::Targets;
use super::values::{InputName, OutputName};
use crate::dataflow::{Dataflow, EngineSettings, Parameters, Setup};
use crate::epoch::journal::{JournalSource, SEGMENT_BYTES_MAX};
use crate::epoch::{Pace, PartitionBounds};
use crate::event::{Limits, Schema};
use crate::feature::FeatureSet;
use crate::generator::GeneratorSource;
use crate::metrics::Metrics;
use crate::runtime::control::ControlStream;
use crate::runtime::job::{Job, Outputs, terms};
use crate::runtime::renew::Renewing;
use crate::runtime::state::{State, StateError, StateSettings};
use crate::score::control::{Deployments, Workshop, files_hash};
use crate::score::model::{Model, ModelDir};
use crate::score::rules::{RuleFile, Rules};
use crate::score::scorer::{Scorer, Thresholds};
use crate::source::control::ControlInput;
use crate::source::kafka::{KafkaConfig, KafkaSource, Position};
use crate::source::tables::{ReferenceKind, ReferenceSource, TableInput, WantedTable};
use crate::source::{FileSource, Source};
use crate::views::lookup::Enrich;

/// Rows repaired per epoch in a replay, where no fresh score waits behind them.
const REPLAY_REPAIR_ROWS: usize = 65_536;

/// What `run` and `replay` do differently.
pub struct Mode {
    /// The command, for messages.
    pub command: &'static str,
    /// When epochs close.
    pub pace: Pace,
    /// Where in a topic to start; `None` if nothing was typed.
    pub from: Option<Position>,
    /// Where in a topic to stop; `None` for never.
    pub to: Option<Position>,
    /// Records per second of wall time that the generator hands out; `None` as fast as they are taken.
    pub generator_per_s: Option<f64>,
}

impl JobFlags {
    /// The job, writing to the outputs that the flags name.
    pub fn resolve(
        &self,
        dataflows: &[Arc<dyn Dataflow>],
        mode: &Mode,
        targets: &Targets,
        stop: Arc<AtomicBool>,
        metrics: &Arc<Metrics>,
    ) -> Result<Job, Failure> {
        let (bounded, own) = (mode.pace == Pace::Bounded, targets);
        self.check_delivery()?;
        let outputs = |schema: &Schema, columns, state: Option<&State>| {
            let state = state.filter(|_| !bounded);
            let targets = state.map(|state| targets.going_on(state.marks()));
            let targets = targets.as_ref().unwrap_or(own);
            self.outputs(targets, schema, columns, bounded, state, metrics)
        };
        self.job(dataflows, mode, stop, metrics, outputs)
    }

    /// The job; its outputs are opened last, for a schema, the names of its features, and where those of an earlier run were.
    pub fn job(
        &self,
        dataflows: &[Arc<dyn Dataflow>],
        mode: &Mode,
        stop: Arc<AtomicBool>,
        metrics: &Arc<Metrics>,
        outputs: impl FnOnce(&Schema, Vec<String>, Option<&State>) -> Result<Outputs, Failure>,
    ) -> Result<Job, Failure> {
        let dataflow = find(dataflows, &self.dataflow)?;
        let setup = setup(&*dataflow, self.schema.as_deref(), &self.set)?;
        let limits = Limits { record_bytes_max: self.record_bytes };
        let source = self.source(&setup.schema, limits, mode)?;
        let features = dataflow.features(&setup)?;
        features.plans(&setup.schema).map_err(Failure::Usage)?;
        let (references, services) = self.references(&features, limits, mode)?;
        let columns = features.columns();
        let repair_rows_max = match (self.repair_rows, mode.pace) {
            (Some(rows), _) => rows as usize,
            (None, Pace::Bounded) => REPLAY_REPAIR_ROWS,
            (None, Pace::Live) => EngineSettings::default().repair_rows_max,
        };
        let (scorer, model_files) = self.scorer(&*dataflow, &columns)?;
        let (scorer, rules) = self.with_rules(scorer, &setup.schema, &columns)?;
        let workshop =
            Workshop { schema: setup.schema.clone(), columns: columns.clone().into(), models: self.models_directory() };
        // What a control stream changes is there from the start.
        let scorer = scorer.or_else(|| self.control.as_ref().map(|_| Scorer::default()));
        let deployments = scorer.map(|scorer| Deployments::new(scorer, Some(workshop)));
        let settings = EngineSettings {
            late_ms: self.horizon,
            label_ms: self.label_horizon,
            repair_rows_max,
            forget_ms: self.forget,
            deployments: deployments.clone(),
        };
        let plan = graph::check(dataflow.clone(), setup.clone(), settings.clone())?;
        let bounds = self.bounds();
        let mut terms = terms(&*dataflow, &setup, &settings, &*source, limits, &bounds)?;
        terms.add("the files of the model", format_args!("{model_files:016x}"));
        terms.add("the rules (--rules)", rules);
        let process = usize::from(self.cluster.process);
        let settings_of_state = StateSettings {
            process,
            processes: usize::from(self.cluster.processes),
            pace: mode.pace,
            keeps_records: self.journal == Kept::Events,
            cut_every: (self.cut_every > 0).then(|| Duration::from_millis(self.cut_every as u64)),
            kept_ms: self.journal_keep,
            segment_bytes: SEGMENT_BYTES_MAX,
        };
        let open = |directory| loop {
            match State::open(directory, settings_of_state, &terms, plan.clone()) {
                Err(StateError::Busy(_)) if self.standby && mode.pace == Pace::Live => {
                    eprintln!("standby   another run has {}; this one goes on when it ends", directory.display());
                    if !State::wait_until_free(directory, process, &stop)? {
                        return Err(Failure::Stopped);
                    }
                }
                opened => return Ok::<_, Failure>(opened?),
            }
        };
        let mut anew = None;
        let mut state = self.state.as_deref().map(open).transpose()?;
        if let Some(renewing) = state.as_ref().map(|state| state.renewing(&setup.schema)).transpose()?.flatten() {
            let (state, source, dumps) = renewing.into_parts();
            let (references, services) = self.references(&features, limits, &Mode { pace: Pace::Bounded, ..*mode })?;
            let job = Job {
                dataflow: dataflow.clone(),
                setup: setup.clone(),
                // Nothing is scored: what was said is known.
                settings: EngineSettings { deployments: None, ..settings.clone() },
                source: Arc::new(source),
                references,
                services,
                limits,
                pace: Pace::Bounded,
                bounds,
                control: None,
                outputs: Outputs::default(),
                state: Some(state),
                terms: terms.clone(),
                peer_timeout: Duration::default(),
                stop: stop.clone(),
                // What it counts was counted by the run that the journal is of.
                metrics: Arc::default(),
            };
            metrics.vitals.starting("building what is new from the journal".to_owned());
            anew = Some(Renewing::build(job, dumps, usize::from(self.cluster.workers))?);
        }
        if let Some(state) = &mut state {
            state.renew(anew);
        }
        if let (Some(state), Some(deployments)) = (&state, &deployments) {
            deployments.restore(state.control()).map_err(Failure::Failed)?;
        }
        let control = self.control(mode.pace == Pace::Bounded, process)?;
        // A replay may look into the log of a run; one cluster does one thing.
        terms.add("the command", mode.command);
        terms.add("--repair-rows", repair_rows_max);
        let outputs = outputs(&setup.schema, columns, state.as_ref())?;
        Ok(Job {
            dataflow,
            setup,
            settings,
            source,
            references,
            services,
            limits,
            pace: mode.pace,
            bounds,
            control,
            outputs,
            state,
            terms,
            peer_timeout: Duration::from_millis(self.cluster.peer_timeout as u64),
            stop,
            metrics: metrics.clone(),
        })
    }

    fn bounds(&self) -> PartitionBounds {
        let (skew_ms, future_ms, idle_ms) = (self.skew, self.future, self.idle);
        PartitionBounds { records_max: self.epoch_records as usize, skew_ms, future_ms, idle_ms }
    }

    /// The models, and a hash of their files.
    fn scorer(&self, dataflow: &dyn Dataflow, columns: &[String]) -> Result<(Option<Scorer>, u64), Failure> {
        let wanted: Vec<&str> = match self.model.as_slice() {
            [] => dataflow.model().into_iter().collect(),
            [none] if none == "none" => Vec::new(),
            named => named.iter().map(String::as_str).collect(),
        };
        let directory = self.models_directory();
        let (mut thresholds, mut models, mut hash) = (None, Vec::<Arc<dyn Model>>::new(), 0);
        for name in wanted {
            let path = ModelDir::find(&directory, name)?;
            let loaded = ModelDir::load(&path)?;
            hash = files_hash(&path, hash).map_err(|error| usage("--model", name, error))?;
            let bound = loaded.bind(columns)?;
            let of_champion = loaded.manifest().thresholds;
            let (review, block) = (of_champion.review, of_champion.block);
            thresholds.get_or_insert(Thresholds { review, block, ..Thresholds::NONE });
            models.push(Arc::new(bound));
        }
        Ok((thresholds.map(|thresholds| Scorer::new(models, thresholds)), hash))
    }

    /// The scorer with the rules that were asked for, and what tells those from others.
    fn with_rules(
        &self,
        scorer: Option<Scorer>,
        schema: &Schema,
        columns: &[String],
    ) -> Result<(Option<Scorer>, String), Failure> {
        let Some(path) = &self.rules else { return Ok((scorer, "none".to_owned())) };
        let content = RuleFile::load(path)?;
        let hash = format!("{:016x}", xxh3_64(format!("{content:?}").as_bytes()));
        let rules = Rules::new(&path.display().to_string(), content, schema, columns)?;
        let scorer = scorer.unwrap_or_else(|| Scorer::new(Vec::new(), Thresholds::NONE));
        Ok((Some(scorer.with_rules(rules)), hash))
    }

    /// Where control messages come from: of the first process.
    fn control(&self, bounded: bool, process: usize) -> Result<Option<ControlStream>, Failure> {
        // A replay of a state repeats what the run has taken in.
        let own = process == 0 && !(bounded && self.state.is_some());
        let Some(named) = self.control.as_ref().filter(|_| own) else { return Ok(None) };
        let input = match named {
            OutputName::Path(path) if !Path::new(path).exists() => {
                return Err(usage("--control", path, "is not there; make the file, it may be empty"));
            }
            OutputName::Path(path) => ControlInput::File(path.into()),
            OutputName::Kafka(topic) => ControlInput::Topic(self.kafka.resolve()?, topic.clone()),
        };
        if let (OutputName::Path(path), Some(replies)) = (named, &self.control_replies)
            && Path::new(path).canonicalize().ok() == replies.canonicalize().ok()
        {
            return Err(usage("--control-replies", path, "is the control stream itself; name another file"));
        }
        // What cannot be read is said before anything is scored without it.
        input.open(0, true)?;
        Ok(Some(ControlStream { input, replies: self.control_replies.clone(), bounded }))
    }

    fn models_directory(&self) -> PathBuf {
        self.models.clone().unwrap_or_else(models_directory)
    }

    fn source(&self, schema: &Arc<Schema>, limits: Limits, mode: &Mode) -> Result<Arc<dyn Source>, Failure> {
        let input = InputName::parse(&self.input).map_err(|reason| usage("--input", self.input.join(","), reason))?;
        if !matches!(input, InputName::Kafka(_))
            && (mode.from.is_some() || mode.command == "replay" && mode.to.is_some())
        {
            return Err(Failure::Usage(
                "--from and --to choose a range of a topic; files and the generator are replayed whole: leave them out"
                    .into(),
            ));
        }
        Ok(match input {
            InputName::Files(paths) => Arc::new(FileSource::new(&paths, schema, limits)?),
            InputName::Generator => {
                let events = self.generator.events;
                if mode.pace == Pace::Bounded && events.is_none() {
                    return Err(Failure::Usage(
                        "--input generator: has no end, so a replay of it needs --events N".into(),
                    ));
                }
                let config = self.generator.resolve();
                Arc::new(GeneratorSource::new(config, schema.clone(), events, mode.generator_per_s)?)
            }
            InputName::Journal(_) if mode.pace == Pace::Live => {
                return Err(Failure::Usage(
                    "--input journal:DIR is for replays; a run goes on with --state DIR".into(),
                ));
            }
            InputName::Journal(directory) => {
                let journal = JournalSource::open(Path::new(&directory));
                Arc::new(journal.map_err(|error| usage("--input", format!("journal:{directory}"), error))?)
            }
            InputName::Kafka(topic) => {
                let from = mode.from.unwrap_or(Position::Earliest);
                if self.state.is_some() && from == Position::Latest {
                    return Err(Failure::Usage(
                        "--from latest: a restart from --state would begin elsewhere; give a time, or leave out --state"
                            .into(),
                    ));
                }
                let to = (mode.pace == Pace::Bounded).then(|| mode.to.unwrap_or(Position::Latest));
                Arc::new(KafkaSource::new(self.kafka.resolve()?, &topic, from, to))
            }
        })
    }

    /// The reference collections of the look-ups, and the addresses of services: what the command line says instead of the
    /// declarations.
    fn references(
        &self,
        features: &FeatureSet,
        limits: Limits,
        mode: &Mode,
    ) -> Result<(ReferenceSource, BTreeMap<String, String>), Failure> {
        let mut wanted: Vec<WantedTable> = Vec::new();
        let mut named = BTreeMap::new();
        for text in &self.reference {
            let parsed = text.split_once('=').filter(|(name, place)| !name.is_empty() && !place.is_empty());
            let (name, place) =
                parsed.ok_or_else(|| usage("--reference", text, "write it as NAME=PATH or NAME=kafka:TOPIC"))?;
            if named.insert(name, place).is_some() {
                return Err(usage("--reference", text, format!("'{name}' is given twice; keep one")));
            }
        }
        let look_ups: Vec<&Enrich> = features.families().iter().filter_map(|family| family.enrich()).collect();
        let (mut services, mut empty) = (BTreeMap::new(), Vec::new());
        for look_up in &look_ups {
            let reference = look_up.reference();
            if let ReferenceKind::Service(_) = reference.kind() {
                let name = reference.name();
                services.extend(named.remove(name).map(|address| (name.to_owned(), address.to_owned())));
                continue;
            }
            if let Some(other) = wanted.iter().find(|other| other.tag == look_up.tag()) {
                if other.reference != *reference {
                    let name = reference.name();
                    return Err(Failure::Usage(format!("reference '{name}' is declared in two ways; rename one")));
                }
                continue;
            }
            let place = named.remove(reference.name()).or(reference.source());
            let place = match place {
                None if reference.required() => {
                    let name = reference.name();
                    let message = format!("reference '{name}' has no source; name one with --reference {name}=PATH");
                    return Err(Failure::Usage(message));
                }
                None => {
                    empty.push(reference.name());
                    continue;
                }
                Some(place) => match OutputName::parse(place).map_err(|reason| usage("--reference", place, reason))? {
                    OutputName::Path(path) => TableInput::File(path),
                    OutputName::Kafka(topic) => TableInput::Topic(self.kafka.resolve()?, topic),
                },
            };
            wanted.push(WantedTable { reference: reference.clone(), tag: look_up.tag(), place });
        }
        // One that several look-ups share was taken by the first.
        let taken = |name: &str| wanted.iter().any(|one| one.reference.name() == name);
        if let Some((name, place)) = named.into_iter().find(|(name, _)| !taken(name)) {
            let known: Vec<&str> = look_ups.iter().map(|one| one.reference().name()).collect();
            let hint = if known.is_empty() {
                "it looks nothing up".into()
            } else {
                format!("it looks up {}", known.join(", "))
            };
            let message = format!("the dataflow '{}' has no reference '{name}'; {hint}", self.dataflow);
            return Err(usage("--reference", format!("{name}={place}"), message));
        }
        let references = ReferenceSource::new(wanted, self.state.clone(), mode.pace == Pace::Bounded, limits)?;
        if !empty.is_empty() {
            tracing::info!("no source is named for {}: empty collections; see --reference", empty.join(", "));
        }
        Ok((references, services))
    }
}

impl KafkaFlags {
    /// The settings of all clients.
    pub fn resolve(&self) -> Result<KafkaConfig, Failure> {
        let config = KafkaConfig::resolve(self.brokers.as_deref(), self.kafka_properties.as_deref(), &self.settings)?;
        Ok(config.with_broker_timeout(Duration::from_millis(self.broker_timeout as u64)))
    }
}

/// A dataflow's schema and parameters.
pub fn setup(dataflow: &dyn Dataflow, schema: Option<&Path>, set: &[String]) -> Result<Setup, Failure> {
    let schema = match schema {
        Some(path) => Schema::load(path)?,
        None => Schema::parse(dataflow.name(), dataflow.schema())?,
    };
    let parameters = Parameters::resolve(dataflow.name(), &dataflow.parameters(), set)?;
    Ok(Setup { schema: Arc::new(schema), parameters })
}

/// Where models are unless told otherwise: in the working directory, else where this binary was built.
fn models_directory() -> PathBuf {
    let here = PathBuf::from("models");
    if here.is_dir() { here } else { Path::new(env!("CARGO_MANIFEST_DIR")).join("models") }
}
