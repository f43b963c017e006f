//! An NBD server's protocol side: how clients are negotiated with and how their requests and replies
//! are written. [`negotiation`] and [`session`] are pure; [`listener`] owns sockets until a client
//! has chosen an export and then hands the socket and the session over.
#![forbid(unsafe_code)]

mod address;
pub mod codec;
pub mod exports;
pub mod limits;
pub mod listener;
pub mod negotiation;
mod option_data;
mod option_reply;
mod reply;
mod requests;
pub mod session;
