//! Commands, answers and states as bytes: [`crate::wire::catalog`] is the format, here everything is checked.

mod answer;
mod command;
mod fields;
mod parts;
mod state;
