//! What this shard knows of trunks, for whoever asks over HTTP.
//! Owns:  nothing; it reads the snapshot, `trunks` and `enrolment`.
//! Gives: one `TrunkView` for each trunk that is asked about and served.
//! Never: credentials.
//! Holds: the view is of one moment; what a reload leaves in place is not forgotten by it.

use shared::trunk_view::TrunkView;

use crate::core::Core;

impl Core {
    pub(crate) fn trunk_views(&self, names: &[Box<str>]) -> Vec<TrunkView> {
        let desk = &self.desk;
        let asked = desk.snapshot.trunks.iter().filter(|trunk| names.contains(&trunk.name));
        asked
            .map(|trunk| TrunkView {
                name: trunk.name.to_string(),
                calls: desk.trunks.calls_of(&trunk.name),
                destinations: trunk
                    .entrances
                    .iter()
                    .map(|entrance| desk.trunks.view(desk.now, trunk, entrance))
                    .collect(),
                registration: self.registration_of(&trunk.name),
            })
            .collect()
    }
}
