//! What join tokens promise, told in virtual time: who gets in with one, who does not, and what is seen of it.

use lab_crdt_model::Binding;
use lab_simulation::World;

/// The token of a machine: of its MAC address, its serial number or both.
fn bound(of: usize, has_mac: bool, has_serial: bool) -> Binding {
    let machine = World::hardware(of);
    Binding {
        mac: machine.macs.first().copied().filter(|_| has_mac),
        serial: machine.serial.filter(|_| has_serial),
    }
}

#[test]
fn a_token_for_one_machine_refuses_another_for_good_and_is_not_spent() {
    for (has_mac, has_serial) in [(true, false), (false, true), (true, true)] {
        let mut w = World::found(90);
        w.grow(3);
        let admin = w.admin.clone();
        let meant = bound(4, has_mac, has_serial);
        let token = w.token_with(&admin, 0, |invite| invite.binding = Some(meant.clone()));
        let token = token.expect("the admin may invite");

        let other = w.join(token.clone(), None);
        assert_eq!(other, 3);
        w.run_for(30_000);

        assert!(!w.is_member(other));
        let why = w.refused_join(other).expect("a refusal").to_owned();
        assert!(
            why.starts_with(&format!(
                "this token is for the machine with {meant}; this one has MAC "
            )),
            "{why}"
        );
        w.kill(other);

        let right = w.join(token, None);
        assert!(w.run_until(30_000, |w| w.is_member(right)));
    }
}
