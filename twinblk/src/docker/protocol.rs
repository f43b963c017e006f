//! What Docker says to a volume plugin, and what it is answered: JSON over HTTP, every request a POST.
//!
//! Whatever is wrong is answered as `{"Err": "one line"}`.

use crate::config::name_complaint;
use crate::failure::Failure;
use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use format::types::Name;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What bodies are called in both directions.
const MEDIA_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";
/// Docker's ids have 64 characters.
const ID_BYTES_MAX: usize = 256;
/// So much of what is wrong is shown.
const SHOWN_CHARACTERS: usize = 64;

/// A request about a volume.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Named {
    name: String,
}

/// `VolumeDriver.Create`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Creating {
    name: String,
    #[serde(default)]
    opts: Option<BTreeMap<String, String>>,
}

/// `VolumeDriver.Mount` and `VolumeDriver.Unmount`.
#[derive(Debug, Deserialize)]
pub(super) struct Mounting {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "ID")]
    id: String,
}

/// A volume in an answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Volume {
    /// Its name.
    pub(super) name: String,
    /// Where it is mounted; empty if it is not.
    pub(super) mountpoint: String,
    /// What `docker volume inspect` shows beside it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) status: BTreeMap<&'static str, Value>,
}

/// What a request is answered.
pub(super) type Answer = Result<Value, Failure>;

/// Reads a request.
pub(super) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        let error = one_line(&error.to_string());
        Failure::usage(format!(
            "the request is not what Docker sends to a volume plugin: {error}"
        ))
    })
}

impl Named {
    pub(super) fn name(&self) -> Result<Name, Failure> {
        checked(&self.name)
    }
}

impl Creating {
    pub(super) fn name(&self) -> Result<Name, Failure> {
        checked(&self.name)
    }

    pub(super) fn options(&self) -> BTreeMap<String, String> {
        self.opts.clone().unwrap_or_default()
    }
}

impl Mounting {
    pub(super) fn name(&self) -> Result<Name, Failure> {
        checked(&self.name)
    }

    /// Who mounts it; Docker has one for each container.
    pub(super) fn id(&self) -> Result<String, Failure> {
        if self.id.is_empty() || self.id.len() > ID_BYTES_MAX {
            return Err(Failure::usage(format!(
                "the request's ID has {} bytes: it must have 1 to {ID_BYTES_MAX}",
                self.id.len()
            )));
        }
        Ok(self.id.clone())
    }
}

fn checked(name: &str) -> Result<Name, Failure> {
    Name::new(name).ok_or_else(|| Failure::usage(name_complaint(&shown(name))))
}

/// A text from outside as part of a line.
pub(super) fn shown(text: &str) -> String {
    let mut shown = one_line(&text.chars().take(SHOWN_CHARACTERS).collect::<String>());
    if text.chars().nth(SHOWN_CHARACTERS).is_some() {
        shown.push('…');
    }
    shown
}

fn one_line(text: &str) -> String {
    let visible = |character: char| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    };
    text.chars().map(visible).collect()
}

/// An answer as it is sent. What was refused is an answer like any other; only who makes no sense is told so by the
/// status as well.
pub(super) fn response(answer: Answer, bad: StatusCode) -> Response {
    let (status, body) = match answer {
        Ok(body) => (StatusCode::OK, body),
        Err(failure) => (
            bad,
            serde_json::json!({ "Err": one_line(&failure.message) }),
        ),
    };
    let kind = [(header::CONTENT_TYPE, MEDIA_TYPE)];
    (status, kind, body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::{Creating, Mounting, Named, read};
    use axum::body::Bytes;
    use std::fmt::Debug;

    fn complaint<T: Debug>(result: Result<T, crate::failure::Failure>) -> String {
        let text = result.expect_err("it is wrong").message;
        assert!(!text.contains('\n') && text.len() < 400, "{text}");
        text
    }

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[test]
    fn requests_are_read_as_docker_writes_them() {
        let text = r#"{"Name":"pgdata","Opts":{"size":"1G"},"More":1}"#;
        let creating: Creating = read(&bytes(text)).expect("it is read");
        assert_eq!(creating.options()["size"], "1G");
        let text = r#"{"Name":"pgdata","Opts":null}"#;
        let creating: Creating = read(&bytes(text)).expect("it is read");
        assert!(creating.options().is_empty());
        let mounting: Mounting = read(&bytes(r#"{"Name":"a","ID":"b"}"#)).expect("it is read");
        assert_eq!(mounting.id().expect("an id"), "b");
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for text in [
            "",
            "{",
            "[]",
            "5",
            "{}",
            r#"{"Name":5}"#,
            "{\"Name\":\n\n",
            "\u{1f980}",
        ] {
            complaint(read::<Named>(&bytes(text)));
        }
        complaint(read::<Creating>(&bytes(
            r#"{"Name":"a","Opts":{"size":5}}"#,
        )));
        complaint(read::<Mounting>(&bytes(r#"{"Name":"a"}"#)));
        let long = "x".repeat(300);
        for name in ["", "a/b", "../a", "A", "a\\nb", &long] {
            let named: Named = read(&bytes(&format!("{{\"Name\":\"{name}\"}}"))).expect("JSON");
            assert!(complaint(named.name()).contains("no name"));
        }
        let mounting: Mounting = read(&bytes(r#"{"Name":"a","ID":""}"#)).expect("JSON");
        complaint(mounting.id());
    }
}
