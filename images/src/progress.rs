//! How long work tells its caller how far it is.

/// Told what is being done. Nothing here prints: the caller decides how a person, or a program, gets to see it.
pub trait Progress: Send + Sync {
    /// A stage begins, named as people would name it. Another one may go on beside it.
    fn stage(&self, name: &str);

    /// So much of what was begun last is done, in a unit of the stage's own; `None` where nobody knows how much there is.
    fn advance(&self, done: u64, total: Option<u64>);

    /// A line of detail, such as a tool's output.
    fn line(&self, text: &str);
}

/// Tells nobody.
impl Progress for () {
    fn stage(&self, _name: &str) {}

    fn advance(&self, _done: u64, _total: Option<u64>) {}

    fn line(&self, _text: &str) {}
}
