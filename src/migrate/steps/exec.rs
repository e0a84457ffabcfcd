//! The `exec` operation: a program of the operator's, for what sexton does not know, such as stopping a server that is
//! not in Kubernetes.

use std::time::Duration;

use async_trait::async_trait;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Act, Ran, Reversal, StepError, child};
use crate::failure::Kind;
use crate::migrate::hands::Hands;
use crate::migrate::names::Text;
use crate::migrate::parameters::{ParameterError, Values};
use crate::migrate::recipe::is_default;
use crate::migrate::world::Place;
use crate::units::Span;

/// A program and its arguments; no shell reads them. It finds source and target in its environment
/// (`SEXTON_SOURCE_HOST`, `SEXTON_TARGET_PASSWORD` and so on).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExecStep {
    /// What is run; 0 is success.
    pub run: Vec<Text>,
    /// Whether it holds: 0 yes, 1 no, anything else is a failure. It must change nothing, since plans run it too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub check: Vec<Text>,
    /// What undoes it; it must succeed when there is nothing to undo.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<Text>,
    /// It may be run again when a run was killed in the middle. Without it and `check` such a step is not guessed about.
    #[serde(default, skip_serializing_if = "is_default")]
    pub repeatable: bool,
    /// How long each of them may take.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// Whether a rehearsal runs it too; one that stops production's server must not be.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rehearsed: bool,
}

const fn default_timeout() -> Span {
    Span::minutes(5)
}

impl ExecStep {
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.run.is_empty() {
            return Err("`run` needs a program; write it and its arguments as a list".to_owned());
        }
        if self.timeout.as_millis() == 0 {
            return Err("`timeout` is nothing; write a duration such as `5m`".to_owned());
        }
        Ok(())
    }

    pub(super) fn words(&self) -> impl Iterator<Item = &Text> {
        self.run.iter().chain(&self.check).chain(&self.undo)
    }

    pub(super) fn render(&self, values: &Values) -> Result<Self, ParameterError> {
        let all = |words: &[Text]| -> Result<Vec<Text>, ParameterError> {
            let mut rendered = Vec::new();
            for word in words {
                for word in values.words(word.as_str())? {
                    rendered.push(Text::try_from(word).map_err(ParameterError::Template)?);
                }
            }
            Ok(rendered)
        };
        Ok(Self { run: all(&self.run)?, check: all(&self.check)?, undo: all(&self.undo)?, ..self.clone() })
    }

    async fn call(&self, words: &[Text], hands: &Hands<'_>) -> Result<child::Ended, StepError> {
        let Some((program, arguments)) = words.split_first() else {
            return Err(StepError::new(Kind::Config, "the step names no program", "write one under `run`"));
        };
        let mut command = Command::new(program.as_str());
        command.args(arguments.iter().map(Text::as_str)).env("SEXTON_MIGRATION", hands.migration.name());
        surroundings(&mut command, "SOURCE", &hands.world.source);
        if let Some(target) = &hands.world.target {
            surroundings(&mut command, "TARGET", target);
        }
        child::run(command, Duration::from(self.timeout), hands).await
    }

    async fn succeed(&self, words: &[Text], hands: &Hands<'_>) -> Result<(), StepError> {
        let ended = self.call(words, hands).await?;
        if ended.code == Some(0) { Ok(()) } else { Err(failed(words, &ended)) }
    }
}

fn surroundings(command: &mut Command, which: &str, place: &Place) {
    let settings = place.postgres.settings();
    let mut set = |name: &str, value: &str| {
        command.env(format!("SEXTON_{which}_{name}"), value);
    };
    set("HOST", &settings.host);
    set("PORT", &settings.port.to_string());
    set("USER", &settings.user);
    set("DATABASE", &place.main);
    set("VISIBILITY_DATABASE", place.visibility.as_deref().unwrap_or_default());
    set("PASSWORD", settings.password.as_ref().map_or("", |password| password.expose_secret()));
}

fn failed(words: &[Text], ended: &child::Ended) -> StepError {
    let program = words.first().map_or("", Text::as_str);
    let how = ended.code.map_or_else(|| "was ended by a signal".to_owned(), |code| format!("ended with {code}"));
    let said = if ended.said.is_empty() { String::new() } else { format!(": {}", ended.said) };
    StepError::new(Kind::Failed, format!("`{program}` {how}{said}"), "correct the cause, then run the migration again")
}

#[async_trait]
impl Act for ExecStep {
    fn reversal(&self) -> Reversal {
        if self.undo.is_empty() { Reversal::Never } else { Reversal::Undo }
    }

    fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    async fn check(&self, hands: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        if self.check.is_empty() {
            return Ok(None);
        }
        let ended = self.call(&self.check, hands).await?;
        match ended.code {
            Some(0) => Ok(Some(true)),
            Some(1) => Ok(Some(false)),
            _ => Err(failed(&self.check, &ended)),
        }
    }

    async fn run(&self, hands: &mut Hands<'_>, _: &Value) -> Result<Ran, StepError> {
        self.succeed(&self.run, hands).await?;
        Ok(Ran::once(json!({})))
    }

    async fn undo(&self, hands: &mut Hands<'_>, _: &Value) -> Result<(), StepError> {
        if self.undo.is_empty() { Ok(()) } else { self.succeed(&self.undo, hands).await }
    }
}
