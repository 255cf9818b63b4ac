//! Lists of things that are counted, each with a stable name and a sentence for the reference.

/// Makes an enumeration of variants with labels and explanations.
macro_rules! labels {
    ($(#[$meta:meta])* $list:ident { $($variant:ident $label:literal $explanation:literal)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $list { $(#[doc = $explanation] $variant,)* }

        impl $list {
            /// All of them.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// Its stable name, for metrics and status.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// One sentence for the reference.
            #[must_use]
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $explanation,)* }
            }
        }
    };
}

pub(crate) use labels;
