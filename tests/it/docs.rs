//! The documentation is true: commands that it shows are run or known, links lead somewhere, and what is made from the
//! program is what the program says.

mod elsewhere;
mod facts;
pub(crate) mod generated;
mod links;
mod manual;
mod shown;
