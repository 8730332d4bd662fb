//! Whose a prefix is: the object `prefix-owner`, for who runs many brokers and may give two of them the same prefix by mistake.
//!
//! `own/NN` says which process has the shards, and any broker may come to have them; this says for whom the prefix is at all. It is looked at before
//! the shards are asked for, changed by conditional writes only, and not touched by who names no owner.

use std::sync::Arc;

use object_store::ObjectStore;
use tracing::info;

use crate::objects::{ObjectError, Objects};
use crate::record::PrefixOwner;

/// Looks in one go while others write it at the same time: each lost race means that somebody has it now, and hardly anybody changes it again.
const LOOKS_MAX: u32 = 10;

/// Who wants a prefix.
#[derive(Debug, Clone)]
pub struct PrefixClaim {
    objects: Objects,
    owner: String,
    adopt: String,
}

impl PrefixClaim {
    /// The prefix at which `bucket` begins shall be `owner`'s; it is taken over from `adopt` when that has it, which is empty for nobody.
    pub fn new(bucket: Arc<dyn ObjectStore>, owner: &str, adopt: &str) -> Self {
        Self { objects: Objects::new(bucket), owner: owner.to_owned(), adopt: adopt.to_owned() }
    }

    /// Takes the prefix if it is nobody's, or of who is to be replaced. Whose it is when it is another's; `None` when it is ours.
    pub async fn look(&self) -> Result<Option<String>, ObjectError> {
        let mut looks = 1;
        loop {
            let (before, version) = self.objects.prefix_owner().await?;
            match before.map(|before| before.owner) {
                Some(owner) if owner == self.owner => return Ok(None),
                Some(owner) if owner != self.adopt => return Ok(Some(owner)),
                before => match self.objects.change_prefix_owner(&version, &PrefixOwner::new(&self.owner)).await {
                    Ok(_) => {
                        info!(owner = self.owner, before, "the prefix belongs to this owner from now on");
                        return Ok(None);
                    }
                    Err(ObjectError::Changed { .. }) if looks < LOOKS_MAX => looks += 1,
                    Err(error) => return Err(error),
                },
            }
        }
    }
}
