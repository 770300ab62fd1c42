//! From a message and the deployment before to the next one, or to the reason why not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::message::{ControlChange, WantedModel};
use super::names::Names;
use crate::event::Schema;
use crate::score::model::{Model, ModelDir};
use crate::score::rules::{CheckedRule, Rule, RuleThresholds, Rules, Scope};
use crate::score::scorer::{DeployedModel, ModelRole, Scorer, Thresholds};

/// Models of a deployment at most: each scores every transaction.
const MODELS_MAX: usize = 16;

/// What deployments are made with.
#[derive(Clone, Debug)]
pub struct Workshop {
    /// The events that rules are about.
    pub schema: Arc<Schema>,
    /// The columns of feature rows.
    pub columns: Arc<[String]>,
    /// Where models are.
    pub models: PathBuf,
}

impl Workshop {
    /// The next deployment. A message that loads files is given what was found in them, so that whoever applies it again finds the
    /// same or says so. Numbers are given to new names only if it succeeds.
    pub(super) fn apply(
        &self,
        before: &Scorer,
        change: &mut ControlChange,
        names: (&mut Names, &mut Names),
    ) -> Result<Scorer, String> {
        let (rule_names, model_names) = names;
        let rules = before.rules();
        let known = |id: &str| {
            rules.get(id).ok_or_else(|| {
                let ids = rules.iter().map(|checked| &*checked.rule.id);
                let near = crate::event::nearest(id, ids).map(|near| format!("; did you mean `{near}`?"));
                format!("there is no rule `{id}`{}", near.unwrap_or_default())
            })
        };
        Ok(match change {
            ControlChange::Rule { rule } => {
                if let Some(same) = rules.get(&rule.id)
                    && same.rule.version == rule.version
                    && (&same.rule.when, &same.rule.scope) != (&rule.when, &rule.scope)
                {
                    return Err(format!("rule {rule} has another condition; count its version up"));
                }
                let mut checked = self.check(rule, rules)?;
                // What is at rest stays so.
                checked.snoozed_until_ms = rules.get(&rule.id).and_then(|same| same.snoozed_until_ms);
                checked.number = rule_names.number(&rule.to_string());
                before.with_rules(rules.with(checked, &self.schema)?)
            }
            ControlChange::RuleMode { rule, mode } => {
                let rule = known(rule)?;
                before.with_rules(rules.with(rule.changed(*mode, rule.snoozed_until_ms), &self.schema)?)
            }
            ControlChange::RuleSnooze { rule, until } => {
                let rule = known(rule)?;
                let changed = rule.changed(rule.rule.mode, Some(until.as_millisecond()));
                before.with_rules(rules.with(changed, &self.schema)?)
            }
            ControlChange::RuleDelete { rule } => before.with_rules(rules.without(&known(rule)?.rule.id)),
            ControlChange::Rules { rules, thresholds } => {
                let (lists, of) = (before.rules().lists().clone(), (&*self.schema, &*self.columns));
                let all = Rules::among("rules", rules.clone(), *thresholds, lists, of);
                let all = all.map_err(|error| error.to_string())?;
                before.with_rules(all.renumbered(|label| rule_names.number(label)))
            }
            ControlChange::RulesRestore { deployment } => {
                return Err(format!("deployment {deployment} is not known any more; put the rules one by one"));
            }
            ControlChange::List(list) => before.with_rules(rules.with_lists(list.added_to(rules.lists())?)),
            ControlChange::ListRemove { list, values } => {
                let less = values.iter().try_fold(rules.lists().clone(), |lists, value| lists.remove(list, value))?;
                before.with_rules(rules.with_lists(less))
            }
            ControlChange::ListDelete { list } => {
                if let Some(user) = rules.lists().number(list).and_then(|number| rules.that_use(number).next()) {
                    return Err(format!("rule {user} looks into list {list}; change that one first"));
                }
                before.with_rules(rules.with_lists(rules.lists().delete(list)?))
            }
            ControlChange::Thresholds { review, challenge, block } => {
                let thresholds = RuleThresholds { review: *review, challenge: *challenge, block: *block };
                before.with_rules(rules.with_thresholds(thresholds)?)
            }
            ControlChange::Model(wanted) => {
                let deployed = self.model(before, wanted, model_names)?;
                before.with_models(deployed, self.schema.id_type())
            }
            ControlChange::Models { models } => {
                let none = before.with_models(Vec::new(), self.schema.id_type());
                let deploy = |so_far: Scorer, wanted: &mut WantedModel| {
                    let deployed = self.model(&so_far, wanted, model_names)?;
                    Ok::<_, String>(so_far.with_models(deployed, self.schema.id_type()))
                };
                models.iter_mut().try_fold(none, deploy)?
            }
            ControlChange::ModelDelete { model } => {
                let labelled = |deployed: &&DeployedModel| deployed.model.label() == model;
                let Some(deployed) = before.models().iter().find(labelled) else {
                    return Err(format!("there is no model `{model}`; there are {}", before.labels().join(", ")));
                };
                if deployed.role == ModelRole::Champion {
                    return Err(format!("{model} is the champion; make another one champion first"));
                }
                let rest = before.models().iter().filter(|one| !labelled(one)).cloned().collect();
                before.with_models(rest, self.schema.id_type())
            }
        })
    }

    fn check(&self, rule: &Rule, rules: &Rules) -> Result<CheckedRule, String> {
        let scope = Scope::new(&self.schema, &self.columns).with_lists(rules.lists());
        let checked = CheckedRule::new("message", rule.clone(), &scope, &self.schema);
        checked.map_err(|error| error.to_string().trim_start_matches("message: ").to_owned())
    }

    fn model(
        &self,
        before: &Scorer,
        WantedModel { model: name, role, share, files }: &mut WantedModel,
        names: &mut Names,
    ) -> Result<Vec<DeployedModel>, String> {
        let (role, share) = (*role, *share);
        if (role == ModelRole::Challenger) != (share > 0.0) || !(0.0..=1.0).contains(&share) {
            return Err("share: a challenger decides on a share above 0 and at most 1; others have none".to_owned());
        }
        let path = ModelDir::find(&self.models, name).map_err(|error| error.to_string())?;
        let hash = files_hash(&path, 0).map_err(|error| format!("{}: {error}", path.display()))?;
        let hash = format!("{hash:016x}");
        if let Some(then) = files.as_ref().filter(|then| **then != hash) {
            return Err(format!("{}: its files are not those of then ({then}, now {hash})", path.display()));
        }
        let loaded = ModelDir::load(&path).map_err(|error| error.to_string())?;
        let (review, block) = (loaded.manifest().thresholds.review, loaded.manifest().thresholds.block);
        let bound = loaded.bind(&self.columns).map_err(|error| error.to_string())?;
        let label = bound.label().to_owned();
        let mut all: Vec<DeployedModel> = before.models().to_vec();
        let place = all.iter().position(|one| one.model.label() == label);
        if role != ModelRole::Champion && place.is_some_and(|place| all[place].role == ModelRole::Champion) {
            return Err(format!("{label} is the champion; make another one champion first"));
        }
        if role == ModelRole::Champion {
            // The one before goes on beside it, so that it can be called back.
            let champions = all.iter_mut().filter(|one| one.role == ModelRole::Champion);
            champions.for_each(|one| one.role = ModelRole::Shadow);
        }
        let number = u16::try_from(names.number(&label)).map_err(|_| "there were too many models".to_owned())?;
        let thresholds = Thresholds { review, block, ..Thresholds::NONE };
        let of_files = Some(hash.as_str().into());
        let deployed = DeployedModel { number, model: Arc::new(bound), role, share, thresholds, files: of_files };
        match place {
            Some(place) => all[place] = deployed,
            None if all.len() >= MODELS_MAX => {
                return Err(format!("there are {MODELS_MAX} models, and that is the most; delete one"));
            }
            None => all.push(deployed),
        }
        let shares: f64 = all.iter().filter(|one| one.role == ModelRole::Challenger).map(|one| one.share).sum();
        if shares > 1.0 {
            return Err(format!("share: challengers would decide on {shares} of all; lower one first"));
        }
        *files = Some(hash);
        Ok(all)
    }
}

/// A hash that tells the files of a model from others: manifest, weights, golden rows, and not what is said about them.
///
/// # Errors
/// If one cannot be read.
pub fn files_hash(directory: &Path, seed: u64) -> std::io::Result<u64> {
    let files = std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files: Vec<PathBuf> = files.collect::<Result<_, _>>()?;
    files.retain(|path| path.is_file() && path.extension().is_none_or(|ending| ending != "md"));
    files.sort();
    files.iter().try_fold(seed, |hash, path| Ok(xxh3_64_with_seed(&std::fs::read(path)?, hash)))
}
