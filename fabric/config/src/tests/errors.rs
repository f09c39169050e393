//! One test for each thing that can be wrong: the whole message, with its line.

use super::{edited, parse};
use crate::{Config, schema};
use std::path::Path;

/// Checks the message for the golden file after `edits`; each case is its own test.
macro_rules! refused {
    ($($name:ident: $edits:expr => $message:expr;)+) => {$(
        #[test]
        fn $name() {
            let edits: &[(&str, &str)] = &$edits;
            let message = parse(&edited(edits)).expect_err("must be refused");
            assert_eq!(message, concat!("server-a.toml", $message));
        }
    )+};
}

// Syntax, tables and keys.
refused! {
    broken_syntax: [("workers = 2", "workers 2")] =>
        ":4: not TOML: key with no value, expected `=`; mend this line, or see https://toml.io for the syntax";
    key_twice: [("workers = 2", "workers = 2\nworkers = 3")] =>
        ":5: not TOML: duplicate key; write each key and each `[table]` once";
    table_twice: [("[fabric]", "[host]")] =>
        ":6: not TOML: duplicate key; write each key and each `[table]` once";
    unknown_table: [("[[peer]]", "[[peers]]")] =>
        ":13: key `peers`: unknown key; did you mean `peer`?";
    unknown_key: [("mac = ", "mca = ")] =>
        ":40: [[vnic]] \"vm-b\": key `mca`: unknown key; did you mean `mac`?";
    unknown_key_that_is_like_none: [("trunk = true", "colour = \"red\"")] =>
        ":56: [[vnic]] \"vm-a\": key `colour`: unknown key; the keys here are id, name, host, network, mac, addresses, socket, socket_mode, queue_pairs, home, standbys, policy, trunk, allow, storm_frames_per_s, offload, require_sealed_memory";
    unknown_key_of_offload: [("guest_tso", "guest_tos")] =>
        ":59: [[vnic]] \"vm-a\" [offload]: key `guest_tos`: unknown key; did you mean `guest_tso`?";
    missing_host_table: [("[host]", ""), ("name = \"server-a\"\n", ""), ("private_key_file = \"/etc/wireonce/server-a.key\"\n", ""), ("workers = 2", "")] =>
        ": there is no table `[host]`; add it; it has the keys name, private_key_file, workers, control_socket, metrics_address, state_directory";
    host_is_a_list: [("[host]", "[[host]]")] =>
        ":1: [host]: is a list, not a table; start it with a line `[host]`";
    peer_is_a_table: [("[[peer]]\nname = \"server-b\"\naddress = \"10.77.0.2\"\npublic_key = \"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\"\n", ""), ("[[peer]]", "[peer]")] =>
        ":14: key `peer`: is a table, not a list of tables; start each with a line `[[peer]]`";
    peer_is_a_list_of_numbers: [("[host]", "network = [1]\n[host]"), ("[[network]]", "[[uplink]]"), ("[[network]]", "[[uplink]]")] =>
        ":1: [[network]]: is a whole number, not a table; start each with a line `[[network]]`";
    missing_key: [("mac = \"52:54:00:00:00:02\"\n", "")] =>
        ":44: [[vnic]] \"vm-a\": key `mac`: missing; add a line such as `mac = \"52:54:00:12:34:56\"`";
    missing_fabric_address: [("address = \"10.77.0.1\"\n", "")] =>
        ":6: [fabric]: key `address`: missing; add a line such as `address = \"10.77.0.1\"`";
}

// Types and ranges of single values.
refused! {
    name_with_a_space: [("\"vm-a\"", "\"vm a\"")] =>
        ":46: [[vnic]] \"vm a\": key `name`: \"vm a\" is not a name; write 1 to 63 letters, digits, `-`, `_` or `.`, a letter or digit first";
    name_that_is_a_number: [("\"vm-a\"", "7")] =>
        ":46: [[vnic]]: key `name`: is a whole number; write 1 to 63 letters, digits, `-`, `_` or `.`, a letter or digit first";
    relative_key_file: [("/etc/wireonce/server-a.key", "server-a.key")] =>
        ":3: [host] \"server-a\": key `private_key_file`: \"server-a.key\" is not an absolute path; write a path that starts with `/`";
    no_workers: [("workers = 2", "workers = 0")] =>
        ":4: [host] \"server-a\": key `workers`: 0 is out of range; write a whole number from 1 to 64";
    metrics_without_a_port: [("workers = 2", "metrics_address = \"127.0.0.1\"")] =>
        ":4: [host] \"server-a\": key `metrics_address`: \"127.0.0.1\" is not an address and a port; write an address and a port like \"127.0.0.1:9464\" or \"[::1]:9464\"";
    metrics_at_port_0: [("workers = 2", "metrics_address = \"127.0.0.1:0\"")] =>
        ":4: [host] \"server-a\": key `metrics_address`: port 0 is not a port that can be asked; write an address and a port like \"127.0.0.1:9464\" or \"[::1]:9464\"";
    quoted_port: [("port = 4791", "port = \"4791\"")] =>
        ":8: [fabric]: key `port`: is a string; write a whole number from 1 to 65535";
    port_out_of_range: [("port = 4791", "port = 65536")] =>
        ":8: [fabric]: key `port`: 65536 is out of range; write a whole number from 1 to 65535";
    negative_port: [("port = 4791", "port = -1")] =>
        ":8: [fabric]: key `port`: -1 is out of range; write a whole number from 1 to 65535";
    port_without_room_for_the_workers: [("port = 4791", "port = 65520")] =>
        ":8: [fabric]: key `port`: 65520 leaves no room for the 16 ports that follow it, 8 for each worker; give at most 65519";
    port_of_a_peer_without_room_for_a_worker: [("port = 4800", "port = 65535")] =>
        ":21: [[peer]] \"gateway-a\": key `port`: 65535 leaves no room for the 8 ports that follow it, 8 for each worker; give at most 65527";
    fabric_port_that_carries_nothing: [("port_up = \"10Gbit\"", "port_up = \"999kbit\"")] =>
        ":115: [fabric_port]: key `port_up`: \"999kbit\" is less than 1Mbit; write a rate from 1Mbit to 100Tbit, such as \"500Mbit\"";
    fabric_port_without_a_unit: [("port_down = \"5Gbit\"", "port_down = 5")] =>
        ":116: [fabric_port]: key `port_down`: is a whole number; write a rate from 1Mbit to 100Tbit, such as \"500Mbit\"";
    fabric_port_misspelt: [("port_down =", "port_dwn =")] =>
        ":116: [fabric_port]: key `port_dwn`: unknown key; did you mean `port_down`?";
    too_many_paths: [("paths = 4", "paths = 9")] =>
        ":9: [fabric]: key `paths`: 9 is out of range; write a whole number from 1 to 8";
    fabric_mtu_too_small: [("mtu = 9000", "mtu = 1279")] =>
        ":10: [fabric]: key `mtu`: 1279 is out of range; write \"probe\" or a number from 1280 to 9216";
    fabric_mtu_word: [("mtu = 9000", "mtu = \"auto\"")] =>
        ":10: [fabric]: key `mtu`: \"auto\" is not known; write \"probe\" or a number without quotes";
    encryption_word: [("\"off\"", "\"none\"")] =>
        ":11: [fabric]: key `encryption`: \"none\" is not known; write \"aes-256-gcm\" or \"off\"";
    encryption_false: [("\"off\"", "false")] =>
        ":11: [fabric]: key `encryption`: is a boolean; write \"aes-256-gcm\" or \"off\"";
    address_with_letters: [("10.77.0.2", "server-b.example")] =>
        ":15: [[peer]] \"server-b\": key `address`: \"server-b.example\" is not an IP address; write one IPv4 or IPv6 address like \"10.77.0.1\" or \"fd00::1\"";
    address_of_nobody: [("10.77.0.1", "0.0.0.0")] =>
        ":7: [fabric]: key `address`: 0.0.0.0 is not the address of one host; give the address that the host has on the fabric";
    address_of_a_group: [("10.77.0.2", "224.0.0.1")] =>
        ":15: [[peer]] \"server-b\": key `address`: 224.0.0.1 is not the address of one host; give the address that the host has on the fabric";
    address_of_a_link: [("10.77.0.1", "fe80::1")] =>
        ":7: [fabric]: key `address`: fe80::1 is a link-local address, which needs an interface; give a global or unique local address";
    key_that_is_not_base64: [("AQEB", "****")] =>
        ":16: [[peer]] \"server-b\": key `public_key`: \"****AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\" is not base64; write the line that `wireonce pubkey FILE` prints on that host, 44 characters";
    key_that_is_short: [("AQEB", "")] =>
        ":16: [[peer]] \"server-b\": key `public_key`: holds 29 bytes, not 32; write the line that `wireonce pubkey FILE` prints on that host, 44 characters";
    key_that_is_zero: [("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")] =>
        ":16: [[peer]] \"server-b\": key `public_key`: is all zero, which is no key; write the line that `wireonce pubkey FILE` prints on that host, 44 characters";
    vni_out_of_range: [("vni = 100", "vni = 16777216")] =>
        ":26: [[network]] \"blue\": key `vni`: 16777216 is out of range; write a whole number from 0 to 16777215";
    network_mtu_out_of_range: [("vni = 0xc8\nmtu = 9000", "vni = 0xc8\nmtu = 9217")] =>
        ":33: [[network]] \"green\": key `mtu`: 9217 is out of range; write a whole number from 1280 to 9216";
    vlan_out_of_range: [("vlan = 7", "vlan = 4095")] =>
        ":28: [[network]] \"blue\": key `vlan`: 4095 is out of range; write a whole number from 1 to 4094";
    vnic_id_zero: [("id = 1002", "id = 0")] =>
        ":45: [[vnic]] \"vm-a\": key `id`: 0 is out of range; write a whole number from 1 to 4611686018427387903";
    vnic_id_out_of_range: [("id = 1002", "id = 4611686018427387904")] =>
        ":45: [[vnic]] \"vm-a\": key `id`: 4611686018427387904 is out of range; write a whole number from 1 to 4611686018427387903";
    uplink_id_zero: [("id = 7", "id = 0")] =>
        ":70: [[uplink]] \"east-2\": key `id`: 0 is out of range; write a whole number from 1 to 4294967295";
    mac_that_is_short: [("52:54:00:00:00:02", "52:54:00:00:02")] =>
        ":49: [[vnic]] \"vm-a\": key `mac`: \"52:54:00:00:02\" is not a MAC address; write six hexadecimal bytes like \"52:54:00:12:34:56\"";
    mac_of_a_group: [("52:54:00:00:00:02", "53:54:00:00:00:02")] =>
        ":49: [[vnic]] \"vm-a\": key `mac`: 53:54:00:00:00:02 is a group address; give one NIC's address: an even first byte, such as 52, and not all zero";
    mac_that_is_zero: [("52:54:00:00:00:02", "00:00:00:00:00:00")] =>
        ":49: [[vnic]] \"vm-a\": key `mac`: 00:00:00:00:00:00 is all zero; give one NIC's address: an even first byte, such as 52, and not all zero";
    guest_address_with_letters: [("\"192.0.2.2\"", "\"192.0.2.x\"")] =>
        ":50: [[vnic]] \"vm-a\": key `addresses`: \"192.0.2.x\" is neither an address nor a prefix; write an address like \"10.0.0.5\" or a prefix like \"10.0.0.0/24\"";
    guest_prefix_with_host_bits: [("\"192.0.2.2\"", "\"192.0.2.2/24\"")] =>
        ":50: [[vnic]] \"vm-a\": key `addresses`: 192.0.2.2/24 has bits set beyond its prefix length; write \"192.0.2.2\" for the one address or \"192.0.2.0/24\" for the prefix";
    guest_addresses_as_one_string: [("[\"192.0.2.2\"]", "\"192.0.2.2\"")] =>
        ":50: [[vnic]] \"vm-a\": key `addresses`: is a string, not a list; write `addresses = [..]`";
    relative_socket: [("/run/wireonce/vm-a.sock", "vm-a.sock")] =>
        ":51: [[vnic]] \"vm-a\": key `socket`: \"vm-a.sock\" is not an absolute path; write a path that starts with `/`";
    long_socket: [("/run/wireonce/vm-a.sock", "/run/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/v.sock")] =>
        ":51: [[vnic]] \"vm-a\": key `socket`: the path has 110 bytes, more than a Unix socket can have; give one of at most 103 bytes";
    socket_mode_word: [("\"connect\"", "\"client\"")] =>
        ":52: [[vnic]] \"vm-a\": key `socket_mode`: \"client\" is not known; write \"listen\" or \"connect\"";
    too_many_queue_pairs: [("queue_pairs = 8", "queue_pairs = 16")] =>
        ":53: [[vnic]] \"vm-a\": key `queue_pairs`: 16 is out of range; write a whole number from 1 to 8";
    trunk_as_a_word: [("trunk = true", "trunk = \"yes\"")] =>
        ":56: [[vnic]] \"vm-a\": key `trunk`: is a string; write true or false, unquoted";
    allow_word: [("\"router-advertisement\"", "\"dhcp\"")] =>
        ":57: [[vnic]] \"vm-a\": key `allow`: \"dhcp\" is not known; write \"dhcp-server\" or \"router-advertisement\"";
    no_storm_frames: [("storm_frames_per_s = 50", "storm_frames_per_s = 0")] =>
        ":58: [[vnic]] \"vm-a\": key `storm_frames_per_s`: 0 is out of range; write a whole number from 1 to 10000000";
    fraction_of_a_storm: [("storm_frames_per_s = 50", "storm_frames_per_s = 0.5")] =>
        ":58: [[vnic]] \"vm-a\": key `storm_frames_per_s`: is a fraction; write a whole number from 1 to 10000000";
    no_storm_frames_of_an_uplink: [("storm_frames_per_s = 5000", "storm_frames_per_s = 0")] =>
        ":91: [[uplink]] \"west-1\": key `storm_frames_per_s`: 0 is out of range; write a whole number from 1 to 10000000";
    back_home_too_soon: [("storm_frames_per_s = 5000", "fail_back_s = 59")] =>
        ":91: [[uplink]] \"west-1\": key `fail_back_s`: 59 is out of range; write a whole number from 60 to 86400";
    storm_of_an_uplink_as_a_word: [("storm_frames_per_s = 5000", "storm_frames_per_s = \"off\"")] =>
        ":91: [[uplink]] \"west-1\": key `storm_frames_per_s`: is a string; write a whole number from 1 to 10000000";
    offload_as_a_word: [("{ guest_tso = false }", "false")] =>
        ":59: [[vnic]] \"vm-a\" [offload]: is a boolean, not a table; write `offload = { guest_tso = .. }`";
    sealed_memory_as_a_number: [("trunk = true", "require_sealed_memory = 1")] =>
        ":56: [[vnic]] \"vm-a\": key `require_sealed_memory`: is a whole number; write true or false, unquoted";
    driver_word: [("\"packet\"", "\"dpdk\"")] =>
        ":80: [[uplink]] \"east-1\": key `driver`: \"dpdk\" is not known; write \"packet\" or \"tap\"";
    interface_with_a_slash: [("\"eth1\"", "\"eth/1\"")] =>
        ":81: [[uplink]] \"east-1\": key `interface`: \"eth/1\" is not an interface name; write 1 to 15 characters without spaces, `/` or `:`, like \"eth0\"";
    interface_that_is_long: [("\"eth1\"", "\"enp0s31f6np0vlan7\"")] =>
        ":81: [[uplink]] \"east-1\": key `interface`: \"enp0s31f6np0vlan7\" is not an interface name; write 1 to 15 characters without spaces, `/` or `:`, like \"eth0\"";
    capacity_as_a_number: [("up = \"1Gbit\"", "up = 1000000000")] =>
        ":92: [[uplink]] \"west-1\": key `up`: is a whole number; write a rate from 1Mbit to 100Tbit, such as \"500Mbit\"";
    capacity_without_a_unit: [("up = \"1Gbit\"", "up = \"1G\"")] =>
        ":92: [[uplink]] \"west-1\": key `up`: \"1G\" is not a rate; write a number and bit, kbit, Mbit, Gbit or Tbit, such as \"500Mbit\"";
    capacity_of_next_to_nothing: [("up = \"1Gbit\"", "up = \"999kbit\"")] =>
        ":92: [[uplink]] \"west-1\": key `up`: \"999kbit\" is less than 1Mbit; write a rate from 1Mbit to 100Tbit, such as \"500Mbit\"";
    capacity_of_parts_of_a_bit: [("2.5Gbit", "2.0000000001Gbit")] =>
        ":93: [[uplink]] \"west-1\": key `down`: \"2.0000000001Gbit\" is no whole bits a second; write fewer digits behind the point, or a smaller unit";
    capacity_that_no_port_has: [("2.5Gbit", "2500Tbit")] =>
        ":93: [[uplink]] \"west-1\": key `down`: \"2500Tbit\" is more than 100Tbit; write a rate from 1Mbit to 100Tbit, such as \"500Mbit\"";
    next_hop_that_is_a_prefix: [("mtu = 1500", "next_hop = \"192.0.2.1/24\"")] =>
        ":82: [[uplink]] \"east-1\": key `next_hop`: \"192.0.2.1/24\" is not an IP address; write the router's IPv4 or IPv6 address like \"192.0.2.1\" or \"fe80::1\"";
    next_hop_that_is_nobody: [("mtu = 1500", "next_hop = \"ff02::1\"")] =>
        ":82: [[uplink]] \"east-1\": key `next_hop`: ff02::1 is not the address of a router; write the router's IPv4 or IPv6 address like \"192.0.2.1\" or \"fe80::1\"";
    next_hop_vlan_that_none_can_have: [("mtu = 1500", "next_hop = \"192.0.2.1\"\nnext_hop_vlan = 4095")] =>
        ":83: [[uplink]] \"east-1\": key `next_hop_vlan`: 4095 is out of range; write a whole number from 1 to 4094";
    next_hop_vlan_without_a_next_hop: [("mtu = 1500", "next_hop_vlan = 20")] =>
        ":75: [[uplink]] \"east-1\": key `next_hop_vlan`: nobody is asked on it; add `next_hop = \"..\"` or remove `next_hop_vlan`";
    outside_probes_as_a_word: [("mtu = 1500", "outside_probes = \"on\"")] =>
        ":82: [[uplink]] \"east-1\": key `outside_probes`: is a string; write true or false, unquoted";
    limit_that_nobody_can_use: [("\"64kbit\"", "\"63kbit\"")] =>
        ":98: [[policy]] \"gold\" [down]: key `limit`: \"63kbit\" is less than 64kbit; write a rate from 64kbit to 100Tbit, such as \"500Mbit\"";
    limit_below_the_reservation: [("\"800Mbit\"", "\"80Mbit\"")] =>
        ":97: [[policy]] \"gold\" [up]: key `limit`: the limit of 80Mbit is below the reservation of 100Mbit; raise the one or lower the other";
    packet_limit_of_nothing: [("20000", "0")] =>
        ":97: [[policy]] \"gold\" [up]: key `limit_packets_per_s`: 0 is out of range; write a whole number from 1 to 1000000000";
    packet_limit_below_nothing: [("20000", "-1")] =>
        ":97: [[policy]] \"gold\" [up]: key `limit_packets_per_s`: -1 is out of range; write a whole number from 1 to 1000000000";
    packet_limit_of_no_port: [("20000", "1000000001")] =>
        ":97: [[policy]] \"gold\" [up]: key `limit_packets_per_s`: 1000000001 is out of range; write a whole number from 1 to 1000000000";
    packet_limit_beyond_64_bits: [("20000", "99999999999999999999")] =>
        ":97: [[policy]] \"gold\" [up]: key `limit_packets_per_s`: 99999999999999999999 is out of range; write a whole number from 1 to 1000000000";
    packet_limit_with_a_unit: [("20000", "\"20k\"")] =>
        ":97: [[policy]] \"gold\" [up]: key `limit_packets_per_s`: is a string; write a whole number from 1 to 1000000000";
    packet_limit_in_part: [("20000", "0.5")] =>
        ":97: [[policy]] \"gold\" [up]: key `limit_packets_per_s`: is a fraction; write a whole number from 1 to 1000000000";
    packet_limit_without_its_time: [("limit_packets_per_s", "limit_packets")] =>
        ":97: [[policy]] \"gold\" [up]: key `limit_packets`: unknown key; did you mean `limit_packets_per_s`?";
    packet_limit_of_a_grant: [("shares = 50", "limit_packets_per_s = 50")] =>
        ":103: [[grant]] [up]: key `limit_packets_per_s`: a grant has no limit in packets; give it in the [[policy]] of the vNICs";
    no_shares: [("shares = 200", "shares = 0")] =>
        ":97: [[policy]] \"gold\" [up]: key `shares`: 0 is out of range; write a whole number from 1 to 1000000";
    terms_that_are_a_rate: [("{ limit = \"64kbit\" }", "\"64kbit\"")] =>
        ":98: [[policy]] \"gold\" [down]: is a string, not a table; write `down = { reservation = .. }`";
    unknown_key_of_terms: [("shares = 50", "share = 50")] =>
        ":103: [[grant]] [up]: key `share`: unknown key; did you mean `shares`?";
    designated_as_a_number: [("id = 7\n", "id = 7\ndesignated = 1\n")] =>
        ":71: [[uplink]] \"east-2\": key `designated`: is a whole number; write true or false, unquoted";
}

// Things of which there may be only one.
refused! {
    peer_with_the_name_of_this_host: [("name = \"server-b\"", "name = \"server-a\"")] =>
        ":14: [[peer]] \"server-a\": key `name`: \"server-a\" is already the name of this host, \"server-a\" (line 2); give each host its own name";
    peer_name_twice: [("name = \"gateway-a\"", "name = \"server-b\"")] =>
        ":19: [[peer]] \"server-b\": key `name`: \"server-b\" is already the name of peer \"server-b\" (line 14); give each host its own name";
    peer_with_the_address_of_this_host: [("address = \"10.77.0.2\"", "address = \"10.77.0.1\"\nport = 4791")] =>
        ":15: [[peer]] \"server-b\": key `address`: 10.77.0.1 port 4791 is already the address and port of this host, \"server-a\" (line 7); give each host its own address, or its own `port` on one";
    peer_address_twice: [("\"10.77.0.3\"\nport = 4800", "\"10.77.0.2\"")] =>
        ":20: [[peer]] \"gateway-a\": key `address`: 10.77.0.2 port 4790 is already the address and port of peer \"server-b\" (line 15); give each host its own address, or its own `port` on one";
    public_key_twice: [("AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE")] =>
        ":22: [[peer]] \"gateway-a\": key `public_key`: it is already the public key of peer \"server-b\" (line 16); make one with `wireonce keygen` on each host";
    network_name_twice: [("\"green\"", "\"blue\"")] =>
        ":31: [[network]] \"blue\": key `name`: \"blue\" is already the name of network \"blue\" (line 25); give each network its own name";
    vni_twice: [("0xc8", "100")] =>
        ":32: [[network]] \"green\": key `vni`: 100 is already the number of network \"blue\" (line 26); give each network its own number";
    vlan_twice: [("0xc8\nmtu = 9000", "0xc8\npool = \"east\"\nvlan = 7")] =>
        ":34: [[network]] \"green\": key `vlan`: VLAN 7 of pool \"east\" is already the segment of network \"blue\" (line 28); give each network of a pool its own VLAN";
    untagged_twice: [("vlan = 7\n", ""), ("mtu = 9000\n\n[[vnic]]", "pool = \"east\"\n\n[[vnic]]")] =>
        ":32: [[network]] \"green\": key `vlan`: the untagged LAN of pool \"east\" is already the segment of network \"blue\" (line 27); give each network of a pool its own VLAN";
    vnic_id_twice: [("id = 1002", "id = 1001")] =>
        ":45: [[vnic]] \"vm-a\": key `id`: 1001 is already the id of vNIC \"vm-b\" (line 36); give each vNIC its own id, and no id twice ever";
    vnic_name_twice: [("\"vm-a\"", "\"vm-b\"")] =>
        ":46: [[vnic]] \"vm-b\": key `name`: \"vm-b\" is already the name of vNIC \"vm-b\" (line 37); give each vNIC its own name";
    mac_twice_in_a_network: [("52:54:00:00:00:02", "52:54:00:00:00:01")] =>
        ":49: [[vnic]] \"vm-a\": key `mac`: 52:54:00:00:00:01 is already the MAC of vNIC \"vm-b\" in network \"blue\" (line 40); give each vNIC of a network its own";
    guest_address_twice_in_a_network: [("\"192.0.2.2\"", "\"192.0.2.1\"")] =>
        ":50: [[vnic]] \"vm-a\": key `addresses`: 192.0.2.1 is already the address of vNIC \"vm-b\" in network \"blue\" (line 41); give each vNIC of a network its own, or a prefix that holds a shared one";
    socket_twice: [("vm-c.sock", "vm-a.sock")] =>
        ":67: [[vnic]] \"vm-c\": key `socket`: \"/run/wireonce/vm-a.sock\" is already the socket of vNIC \"vm-a\" (line 51); give each vNIC its own socket";
    socket_that_is_the_control_socket: [("vm-c.sock", "server-a.sock")] =>
        ":67: [[vnic]] \"vm-c\": key `socket`: \"/run/wireonce/server-a.sock\" is already this host's control socket; give each socket its own path";
    uplink_id_twice: [("id = 3", "id = 7")] =>
        ":76: [[uplink]] \"east-1\": key `id`: 7 is already the id of uplink \"east-2\" (line 70); give each uplink its own id";
    uplink_name_twice: [("name = \"east-1\"", "name = \"east-2\"")] =>
        ":77: [[uplink]] \"east-2\": key `name`: \"east-2\" is already the name of uplink \"east-2\" (line 71); give each uplink its own name";
    interface_twice: [("\"wo-west\"", "\"eth1\"")] =>
        ":90: [[uplink]] \"west-1\": key `interface`: \"eth1\" is already the interface of uplink \"east-1\" (line 81); give each uplink of a host its own interface";
    draining_as_a_number: [("id = 7\n", "id = 7\ndraining = 1\n")] =>
        ":71: [[uplink]] \"east-2\": key `draining`: is a whole number; write true or false, unquoted";
    designated_twice: [("id = 7\n", "id = 7\ndesignated = true\n"), ("id = 3\n", "id = 3\ndesignated = true\n")] =>
        ":78: [[uplink]] \"east-1\": key `designated`: uplink \"east-2\" (line 71) is already the designated one of pool \"east\"; mark at most one uplink of a pool";
    policy_name_twice: [("[[grant]]", "[[policy]]\nname = \"gold\"\n\n[[grant]]")] =>
        ":101: [[policy]] \"gold\": key `name`: \"gold\" is already the name of policy \"gold\" (line 96); give each policy its own name";
    grant_twice: [("[[grant]]", "[[grant]]\nserver = \"server-b\"\npool = \"west\"\n\n[[grant]]")] =>
        ":106: [[grant]]: key `server`: \"server-b\" has already the grant of server \"server-b\" in pool \"west\" (line 101); write all that a server has of a pool into one grant";
    standby_that_is_the_home: [("[\"east-2\"]", "[\"east-1\"]")] =>
        ":55: [[vnic]] \"vm-a\": key `standbys`: \"east-1\" is already the home; name each uplink once";
    standby_twice: [("[\"east-2\"]", "[\"east-2\",\n  \"east-2\"]")] =>
        ":56: [[vnic]] \"vm-a\": key `standbys`: \"east-2\" is already a standby; name each uplink once";
}

// References and the rules between tables.
refused! {
    peer_of_the_other_ip_version: [("10.77.0.2", "fd00::2")] =>
        ":15: [[peer]] \"server-b\": key `address`: fd00::2 is IPv6 but this host's address 10.77.0.1 (line 7) is IPv4; give the peer's IPv4 address: a fabric has one IP version";
    unknown_network: [("network = \"green\"", "network = \"gren\"")] =>
        ":65: [[vnic]] \"vm-c\": key `network`: \"gren\" is the name of no [[network]]; did you mean \"green\"?";
    unknown_network_that_is_like_none: [("network = \"green\"", "network = \"management\"")] =>
        ":65: [[vnic]] \"vm-c\": key `network`: \"management\" is the name of no [[network]]; add a [[network]], or give one of the networks \"blue\", \"green\"";
    unknown_host_of_a_vnic: [("host = \"server-b\"", "host = \"server-z\"")] =>
        ":38: [[vnic]] \"vm-b\": key `host`: \"server-z\" is neither this host nor a [[peer]]; did you mean \"server-a\"?";
    unknown_host_of_an_uplink: [("host = \"gateway-a\"", "host = \"elsewhere\"")] =>
        ":72: [[uplink]] \"east-2\": key `host`: \"elsewhere\" is neither this host nor a [[peer]]; add a [[peer]], or give one of the hosts \"gateway-a\", \"server-a\", \"server-b\"";
    unknown_home: [("home = \"east-1\"", "home = \"eats-1\"")] =>
        ":54: [[vnic]] \"vm-a\": key `home`: \"eats-1\" is the name of no [[uplink]]; did you mean \"east-1\"?";
    unknown_standby: [("[\"east-2\"]", "[\"north-9\"]")] =>
        ":55: [[vnic]] \"vm-a\": key `standbys`: \"north-9\" is the name of no [[uplink]]; add an [[uplink]], or give one of the uplinks \"east-1\", \"east-2\"";
    unknown_pool: [("vni = 100\npool = \"east\"", "vni = 100\npool = \"north\"")] =>
        ":27: [[network]] \"blue\": key `pool`: \"north\" is the pool of no [[uplink]]; add an [[uplink]] of that pool, or give one of the pools \"east\", \"west\"";
    unknown_policy: [("policy = \"gold\"", "policy = \"golden\"")] =>
        ":112: [[vnic]] \"vm-d\": key `policy`: \"golden\" is the name of no [[policy]]; did you mean \"gold\"?";
    unknown_pool_of_a_grant: [("pool = \"west\"\nserver", "pool = \"wets\"\nserver")] =>
        ":101: [[grant]]: key `pool`: \"wets\" is the pool of no [[uplink]]; did you mean \"west\"?";
    unknown_server_of_a_grant: [("server = \"server-b\"", "server = \"server-c\"")] =>
        ":102: [[grant]]: key `server`: \"server-c\" is neither this host nor a [[peer]]; did you mean \"server-a\"?";
    more_reserved_than_there_is: [("[[grant]]", "[[grant]]\npool = \"west\"\nserver = \"server-a\"\nup = { reservation = \"391Mbit\" }\n\n[[grant]]")] =>
        ":108: [[grant]] [up]: key `reservation`: with this, 991Mbit of pool \"west\" are reserved, and its uplinks have 990Mbit for it (99 % of their `up`); reserve less, or give the pool's uplinks (more) `up`";
    reserved_where_no_capacity_is_known: [("pool = \"west\"\nserver", "pool = \"east\"\nserver")] =>
        ":103: [[grant]] [up]: key `reservation`: with this, 600Mbit of pool \"east\" are reserved, and its uplinks have 0bit for it (99 % of their `up`); reserve less, or give the pool's uplinks (more) `up`";
    home_of_another_pool: [("home = \"east-1\"", "home = \"west-1\"")] =>
        ":54: [[vnic]] \"vm-a\": key `home`: uplink \"west-1\" is in pool \"west\", but network \"blue\" is on pool \"east\"; name an uplink of that pool, such as \"east-1\"";
    home_without_a_pool: [("vm-c.sock\"", "vm-c.sock\"\nhome = \"east-1\"")] =>
        ":68: [[vnic]] \"vm-c\": key `home`: network \"green\" has no pool, so its vNICs use no uplink; remove `home` or give the network a `pool`";
    no_home_with_a_pool: [("home = \"east-1\"\n", "")] =>
        ":44: [[vnic]] \"vm-a\": key `home`: missing, and network \"blue\" has pool \"east\"; add a line such as `home = \"east-1\"`";
    vlan_without_a_pool: [("0xc8", "0xc8\nvlan = 8")] =>
        ":33: [[network]] \"green\": key `vlan`: a VLAN is one of a pool, and this network has none; add `pool = \"..\"` or remove `vlan`";
    no_socket_on_this_host: [("socket = \"/run/wireonce/vm-c.sock\"\n", "")] =>
        ":61: [[vnic]] \"vm-c\": key `socket`: missing, and the vNIC is on this host; add a line such as `socket = \"/run/wireonce/vm-c.sock\"`";
    no_driver_on_this_host: [("driver = \"tap\"\n", "")] =>
        ":84: [[uplink]] \"west-1\": key `driver`: missing, and the uplink is on this host; add a line such as `driver = \"packet\"`";
    no_interface_on_this_host: [("interface = \"eth1\"\n", "")] =>
        ":75: [[uplink]] \"east-1\": key `interface`: missing, and the uplink is on this host; add a line such as `interface = \"eth1\"`";
    network_larger_than_an_uplink: [("vlan = 7", "mtu = 1501")] =>
        ":27: [[network]] \"blue\": key `pool`: uplink \"east-1\" carries 1500 bytes, less than the network's MTU of 1501; lower the network's `mtu` or raise the uplink's";
}

#[test]
fn more_than_the_limit_is_refused() {
    let many = "[[network]]\nname = \"n\"\nvni = 1\n".repeat(schema::NETWORKS_MAX);
    let message = parse(&format!("{}{many}", edited(&[]))).expect_err("must be refused");
    assert_eq!(
        message,
        "server-a.toml:24: [[network]]: there are 4098 of them; one file describes at most 4096"
    );
    let addresses = vec!["\"192.0.2.9\""; schema::ADDRESSES_MAX + 1].join(",");
    let text = edited(&[("\"192.0.2.2\"", addresses.as_str())]);
    assert_eq!(
        parse(&text).expect_err("must be refused"),
        "server-a.toml:50: [[vnic]] \"vm-a\": key `addresses`: has 65 entries; give at most 64"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/nonexistent/wireonce.toml")).expect_err("no such file");
    assert_eq!(
        error.to_string(),
        "/nonexistent/wireonce.toml: cannot be read: No such file or directory; \
         give the path of a file that exists"
    );
}

#[test]
fn a_directory_is_not_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let error = Config::load(directory.path()).expect_err("a directory");
    assert_eq!(
        error.to_string(),
        format!(
            "{}: cannot be read: Is a directory; \
             give the path of a readable text file",
            directory.path().display()
        )
    );
}

#[test]
fn a_file_that_is_not_text_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"[host]\n\xff\xfe").unwrap();
    let error = Config::load(file.path()).expect_err("not text");
    assert_eq!(
        error.to_string(),
        format!("{}: byte 7 is not UTF-8 text; save the file as UTF-8", file.path().display())
    );
}
