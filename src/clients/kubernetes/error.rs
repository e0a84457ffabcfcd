use crate::failure::{Explain, Kind};

/// What can go wrong with Kubernetes.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// It is not known how to log in.
    #[error("how to log in to Kubernetes cannot be read: {why}")]
    Login {
        /// Why not.
        why: String,
    },
    /// There is no such object.
    #[error("there is no {what} in namespace `{namespace}`")]
    Missing {
        /// Its kind and name.
        what: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// The role may not.
    #[error("Kubernetes forbids {doing}: {why}")]
    Forbidden {
        /// What was attempted.
        doing: String,
        /// In its words.
        why: String,
    },
    /// Somebody else has changed the object meanwhile.
    #[error("{what} was changed by somebody else meanwhile")]
    Conflict {
        /// Its kind and name.
        what: String,
    },
    /// Anything else.
    #[error("{doing}: {why}")]
    Failed {
        /// What was attempted.
        doing: String,
        /// Why it failed.
        why: String,
    },
}

impl KubernetesError {
    /// Of an answer, told apart.
    pub(super) fn of(doing: &str, what: &str, namespace: &str, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 404 => {
                Self::Missing { what: what.to_owned(), namespace: namespace.to_owned() }
            }
            kube::Error::Api(status) if status.code == 403 || status.code == 401 => {
                Self::Forbidden { doing: doing.to_owned(), why: status.message.clone() }
            }
            kube::Error::Api(status) if status.code == 409 => Self::Conflict { what: what.to_owned() },
            error => Self::Failed { doing: doing.to_owned(), why: crate::failure::chain(error) },
        }
    }
}

impl Explain for KubernetesError {
    fn kind(&self) -> Kind {
        match self {
            Self::Login { .. } => Kind::Config,
            _ => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Login { .. } => {
                "give the pod a ServiceAccount's token, or name a kubeconfig under `kubernetes:`".into()
            }
            Self::Missing { .. } => "check its name, and `kubernetes.namespace` in the configuration".into(),
            Self::Forbidden { .. } => "k8s/recipes/move-database has the Role that a migration needs".into(),
            Self::Conflict { .. } => "look who changes it, then run the migration again".into(),
            Self::Failed { .. } => return None,
        })
    }
}
