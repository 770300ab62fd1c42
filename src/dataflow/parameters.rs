//! Typed parameters: `--set name.key=value`.

use std::collections::BTreeMap;

use super::BuildError;

/// A parameter that a dataflow takes.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The key after the dataflow's name.
    pub key: &'static str,
    /// What it does, with its unit.
    pub about: &'static str,
    /// The value if it is not set; empty for none.
    pub default: &'static str,
}

/// The values of a dataflow's parameters.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    dataflow: String,
    values: BTreeMap<String, String>,
}

impl Parameters {
    /// The defaults, overridden by `settings` of the form `name.key=value`. The error names the setting.
    pub fn resolve(dataflow: &str, known: &[Parameter], settings: &[String]) -> Result<Self, BuildError> {
        let mut values: BTreeMap<String, String> =
            known.iter().map(|parameter| (parameter.key.to_owned(), parameter.default.to_owned())).collect();
        for setting in settings {
            let parsed = setting.split_once('=').and_then(|(path, value)| Some((path.split_once('.')?, value)));
            let Some(((name, key), value)) = parsed else {
                return Err(BuildError(format!("--set {setting}: write it as name.key=value")));
            };
            if name != dataflow {
                return Err(BuildError(format!("--set {setting}: the dataflow is '{dataflow}', not '{name}'")));
            }
            let Some(known) = values.get_mut(key) else {
                let keys: Vec<_> = known.iter().map(|parameter| parameter.key).collect();
                let hint =
                    if keys.is_empty() { "it takes none".into() } else { format!("it takes {}", keys.join(", ")) };
                return Err(BuildError(format!("--set {setting}: '{dataflow}' has no parameter '{key}'; {hint}")));
            };
            value.clone_into(known);
        }
        Ok(Parameters { dataflow: dataflow.to_owned(), values })
    }

    /// All of them, as they are set.
    pub fn all(&self) -> String {
        let all = self.values.iter().map(|(key, value)| format!("{}.{key}={value}", self.dataflow));
        all.collect::<Vec<_>>().join(" ")
    }

    /// The text of a parameter; empty if it was not set and has no default.
    pub fn text(&self, key: &str) -> &str {
        self.values.get(key).map_or("", String::as_str)
    }

    /// The value of a parameter, parsed.
    pub fn parsed<T: std::str::FromStr>(&self, key: &str) -> Result<T, BuildError> {
        let (text, dataflow) = (self.text(key), &self.dataflow);
        text.parse().map_err(|_| BuildError(format!("--set {dataflow}.{key}={text}: not a value this parameter takes")))
    }
}
