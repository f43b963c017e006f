//! The client's side of NBD: for the devices that volumes become, and for images and the demonstration.

mod client;
mod connection;
mod protocol;

pub(crate) use client::NbdClient;
pub(crate) use connection::{Connection, Error};
pub(crate) use protocol::{Ask, Broken, Export, REPLY_BYTES, Unanswered, put_request, reply};
