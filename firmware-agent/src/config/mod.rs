//! The configuration.
mod lexer;
mod remark;
pub mod uci;
pub use remark::{Mistake,Remark,Warning};
