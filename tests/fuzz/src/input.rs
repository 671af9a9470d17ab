//! Octets read as choices.

/// Octets that a script of steps is read from. Behind its end there are zeros, so every script can be read.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    rest: &'a [u8],
}

// === impl Input ===

impl<'a> Input<'a> {
    /// A script.
    #[must_use]
    pub fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// One octet.
    pub fn octet(&mut self) -> u8 {
        let [octet] = self.array();
        octet
    }

    /// A number of two octets.
    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    /// A number of eight octets.
    pub fn long(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    /// Some octets.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        for (to, from) in array.iter_mut().zip(self.take(N)) {
            *to = *from;
        }
        array
    }

    /// Octets with their number before them; 255 says that two more octets have it.
    pub fn blob(&mut self) -> &'a [u8] {
        let len = match self.octet() {
            u8::MAX => usize::from(self.short()),
            len => usize::from(len),
        };
        self.take(len)
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.octet()) % choices.len()]
    }

    /// What is left.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }
}
