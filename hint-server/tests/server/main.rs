//! The hint server against real viewers, browsers and operators.

mod hints;
mod operator;
mod support;
