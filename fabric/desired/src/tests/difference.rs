//! Differences: complete, and readable.

use super::{HOUSE, house, objects};
use crate::{Difference, House, Kind};
use proptest::prelude::*;

#[test]
fn a_difference_shows_each_field_before_and_after() {
    let text = HOUSE
        .replace("home = \"east-1\"\nstandbys = [\"east-2\"]", "home = \"east-2\"")
        .replace("limit = \"1Gbit\"", "limit = \"2Gbit\"");
    let mut after: House = objects(&text).into_iter().collect();
    after.remove(Kind::Vnic, "vm-c");
    after.put(objects("[[pool]]\nname = \"west\"\n").remove(0));
    assert_eq!(
        Difference::between(&house(), &after).to_string(),
        "+ pool west\n    name: \"west\"\n~ vnic vm-a\n    home: \"east-1\" -> \"east-2\"\n    \
         standbys: [\"east-2\"] -> left out\n- vnic vm-c\n~ grant east/server-b\n    up.limit: \
         \"1Gbit\" -> \"2Gbit\"\n"
    );
}

#[test]
fn a_house_differs_not_from_itself() {
    assert!(Difference::between(&house(), &house()).is_empty());
}

proptest! {
    /// What is in the difference, and nothing else, makes one house the other.
    #[test]
    fn taking_what_differs_makes_one_the_other(kept in prop::collection::vec(any::<bool>(), 32)) {
        let all = house();
        let part: House =
            all.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(o, _)| o.clone()).collect();
        let difference = Difference::between(&part, &all);
        let mut made = part;
        for object in &difference.objects {
            made.put(all.get(object.kind, &object.name).unwrap().clone());
        }
        prop_assert_eq!(made, all);
    }
}
