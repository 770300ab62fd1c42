//! The steps of a pattern, resolved.

use super::count::{Count, CountAggregate, CountMeasure};
use super::expr::duration_ms;
use super::plan::{Absent, Step};
use super::resolve::{Names, StepName, resolve_all};
use crate::views::pattern::spec::StepSpec;

impl Names<'_, '_> {
    /// Resolves a step; the first has number 0.
    pub(super) fn step(&mut self, step: &StepSpec, number: usize) -> Result<Step, String> {
        if step.absent.is_some() {
            return Err("'absent' may stand in the last step only; move it there".into());
        }
        if step.whole_window && !step.counts() {
            return Err("'whole_window' belongs to a step that counts; add at_least or having".into());
        }
        if step.within.is_some() {
            return Err("'within' belongs to the pattern, or to a step with 'absent'".into());
        }
        let event = step.event.as_ref().ok_or("names no event; write event = \"NAME\"")?;
        let bit = self.named(event)?;
        if number == 0 && !(step.conditions.is_empty() && step.not.is_empty()) {
            return Err(
                "is the first: no step stands before it; put conditions into its event, and remove 'not'".into()
            );
        }
        let name = step.name().unwrap_or(event).to_owned();
        if self.steps.iter().any(|known| known.name == name) || name == "history" {
            return Err(format!("the name '{name}' is taken; give the step another with as = \"...\""));
        }
        let kinds = self.group.events[usize::from(bit)].kinds.clone();
        self.kinds.clone_from(&kinds);
        let condition = resolve_all(&step.conditions, self)?;
        let not = step.not.iter().try_fold(0, |bits, name| self.named(name).map(|bit| bits | 1 << bit))?;
        let count = step.counts().then(|| {
            let count = CountAggregate { measure: CountMeasure::Count, only: None };
            self.here = Some(vec![count]);
            let having = resolve_all(&step.having, self);
            let aggregates = self.here.take().unwrap_or_default();
            let having = having.map(|having| Some(having).filter(|having| !having.is_always()));
            having.map(|having| {
                let at_least = i128::from(step.at_least.unwrap_or(1).max(1));
                Count { at_least, aggregates, having, whole_window: step.whole_window, needs: Vec::new() }
            })
        });
        let count = count.transpose()?;
        let aggregates = count.as_ref().map(|count| count.aggregates.clone());
        self.steps.push(StepName { name, kinds, aggregates, keeps: false });
        Ok(Step { bit, condition, not, count, keeps: false })
    }

    /// Resolves what must not come after the last step.
    pub(super) fn absent(&mut self, step: &StepSpec) -> Result<Absent, String> {
        if step.event.is_some() || step.counts() || !step.not.is_empty() || step.label.is_some() {
            return Err("a step with 'absent' has only 'where' and 'within' beside it; remove the rest".into());
        }
        let bit = self.named(step.absent.as_deref().unwrap_or_default())?;
        self.kinds = self.group.events[usize::from(bit)].kinds.clone();
        let within = step.within.as_deref().ok_or("'absent' needs a 'within': how long the event stays away")?;
        Ok(Absent { bit, condition: resolve_all(&step.conditions, self)?, within_ms: duration_ms(within)? })
    }
}
