//! Topic Aliases, inbound and outbound: per Network Connection and per direction [MQTT-3.3.2-7].

use std::collections::HashMap;

/// Why an inbound Topic Alias was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    /// The alias is 0 or above the maximum granted in CONNACK [MQTT-3.3.2-8] [MQTT-3.3.2-9].
    #[error("topic alias out of range")]
    OutOfRange,
    /// The alias was used without a Topic Name before a mapping was set: a Protocol Error (5.0 3.3.2.3.4).
    #[error("topic alias without a mapping")]
    Unknown,
}

/// The mappings a Client has set on its Network Connection.
#[derive(Debug, Default)]
pub struct AliasesIn {
    topics: Vec<Option<Box<str>>>,
}

impl AliasesIn {
    /// Sets `alias` to `topic`, replacing an older mapping. `maximum` is what CONNACK granted.
    pub fn set(&mut self, alias: u16, topic: &str, maximum: u16) -> Result<(), AliasError> {
        // [MQTT-3.3.2-8] 0 and values above the Topic Alias Maximum are not permitted.
        if alias == 0 || alias > maximum {
            return Err(AliasError::OutOfRange);
        }
        let index = usize::from(alias) - 1;
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        if self.topics[index].as_deref() != Some(topic) {
            self.topics[index] = Some(topic.into());
        }
        Ok(())
    }

    /// The topic `alias` stands for.
    pub fn get(&self, alias: u16, maximum: u16) -> Result<&str, AliasError> {
        if alias == 0 || alias > maximum {
            return Err(AliasError::OutOfRange);
        }
        self.topics.get(usize::from(alias) - 1).and_then(Option::as_deref).ok_or(AliasError::Unknown)
    }
}

/// The mappings the broker has set towards a Client: the first `maximum` topics it sends keep theirs for the life of the connection.
#[derive(Debug)]
pub(crate) struct AliasesOut {
    maximum: u16,
    by_topic: HashMap<Box<str>, u16>,
}

/// How one PUBLISH names its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TopicForm {
    /// The Topic Name alone.
    Name,
    /// The Topic Name and an alias it sets.
    NameAndAlias(u16),
    /// The alias alone.
    Alias(u16),
}

impl AliasesOut {
    pub(crate) fn new(maximum: u16) -> Self {
        Self { maximum, by_topic: HashMap::new() }
    }

    /// Chooses the form for `topic`, the name alone when only that `fits`; None: nothing does. A new mapping is remembered, so the packet
    /// must be sent.
    pub(crate) fn form(&mut self, topic: &str, fits: impl Fn(TopicForm) -> bool) -> Option<TopicForm> {
        let next = self.by_topic.len() + 1;
        let form = match self.by_topic.get(topic) {
            Some(alias) => TopicForm::Alias(*alias),
            // [MQTT-3.1.2-26] [MQTT-3.1.2-27] Never above what the Client granted.
            None if next <= usize::from(self.maximum) => TopicForm::NameAndAlias(next as u16),
            None => TopicForm::Name,
        };
        if !fits(form) {
            return (form != TopicForm::Name && fits(TopicForm::Name)).then_some(TopicForm::Name);
        }
        if let TopicForm::NameAndAlias(alias) = form {
            self.by_topic.insert(topic.into(), alias);
        }
        Some(form)
    }
}
