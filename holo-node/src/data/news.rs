//! What the control plane tells: arrays, configs, and who there is.

use std::collections::BTreeSet;
use std::sync::Arc;

use holo_core::replication::{Class, Input, SessionId};

use super::DataPlane;
use crate::ports::News;

impl DataPlane {
    /// Takes over what changed in the catalog.
    pub(crate) fn take_news(self: &Arc<Self>, news: News) {
        // An array whose groups have news waits for these: nobody writes to it under an older config.
        let classes: BTreeSet<Class> =
            news.configs.iter().map(|claim| claim.config.group.class).collect();
        let arrays = news.arrays.into_iter().filter_map(|array| self.arrays.prepare(array));
        let (with_configs, others): (Vec<_>, Vec<_>) =
            arrays.partition(|array| classes.contains(&array.descriptor.class()));
        self.arrays.add_all(others);
        for id in news.removed {
            self.arrays.remove(id);
        }
        if let Some(policy) = news.policy {
            self.arrays.set_policy(policy);
        }
        let mut inputs: Vec<Input> = Vec::new();
        if let Some(living) = news.living {
            self.outboxes.retain(&living);
            self.arrays.gates.retain(&living);
            inputs.push(Input::Living(living));
        }
        inputs.extend(news.configs.into_iter().map(Input::Config));
        if !news.targets.is_empty() {
            inputs.push(Input::Targets(news.targets));
        }
        let refused = news.refused.into_iter();
        inputs.extend(refused.map(|(group, epoch)| Input::ProposalRefused { group, epoch }));
        if let Some(below) = news.sessions_below {
            inputs.push(Input::ExpireSessions { below: SessionId(below) });
        }
        self.with_machine(|machine, now| {
            // Before the configs: who becomes a primary by one of them knows what it may take.
            if let Some(intake) = news.intake {
                machine.intake = intake;
            }
            // Before them as well: a role is over the arrays that there are.
            self.arrays.add_all(with_configs);
            self.arrays.hear_below(news.next_array);
            for input in inputs {
                if let Err(failure) = machine.host.handle_input(now, input) {
                    tracing::warn!(code = %failure.code, message = %failure.message, "news from the catalog refused");
                }
            }
        });
        // Roles are as the configs say by now: what was put back and is still nobody's goes.
        self.with_machine(|machine, _now| machine.drop_unwanted(&self.arrays));
        // Last: whoever reads the new view finds the new roles.
        if let Some(view) = news.view {
            self.arrays.set_view(view);
        }
    }
}
