//! How the lists beside the rows lie in the store. They are for whoever makes the next backup, who need not be able to
//! open the rows; but a hash of a row tells whoever guesses the row that it is there. So where rows are encrypted, the
//! lists are encrypted for a key of the maker's own.

use crate::backup::chunk::Holds;
use crate::backup::seal::{Identities, Recipients};

/// For whom lists are encrypted.
#[derive(Debug, Clone)]
pub(super) enum Lists {
    /// For nobody, as the rows.
    Plain,
    /// The places for the maker; what is gone for those as well who open the rows.
    Sealed {
        /// The maker.
        maker: Recipients,
        /// The maker and the recipients of the rows.
        all: Recipients,
    },
    /// The rows are encrypted and the maker has no key: no list is made, and every backup reads everything.
    Never,
}

impl Lists {
    /// For rows that are encrypted for these.
    pub(super) fn of(rows: Option<&Recipients>, maker: Option<&Identities>) -> Self {
        match (rows, maker.and_then(Identities::recipients)) {
            (None, _) => Self::Plain,
            (Some(rows), Some(maker)) => Self::Sealed { all: rows.and(&maker), maker },
            (Some(_), None) => Self::Never,
        }
    }

    /// For whom a list of this kind is encrypted.
    pub(super) const fn recipients(&self, holds: Holds) -> Option<&Recipients> {
        match (self, holds) {
            (Self::Sealed { maker, .. }, Holds::Places) => Some(maker),
            (Self::Sealed { all, .. }, _) => Some(all),
            (Self::Plain | Self::Never, _) => None,
        }
    }
}
