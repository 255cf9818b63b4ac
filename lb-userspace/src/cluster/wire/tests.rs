use proptest::prelude::*;

use super::*;

fn address(is_narrow: bool) -> BoxedStrategy<Address> {
    if is_narrow {
        any::<[u8; 4]>().prop_map(Address::from_v4).boxed()
    } else {
        any::<[u8; 16]>().prop_map(Address::from_v6).boxed()
    }
}

fn record(is_narrow: bool) -> impl Strategy<Value = Record> {
    let ends = (
        [address(is_narrow), address(is_narrow), address(is_narrow)],
        any::<[u16; 3]>(),
        proptest::option::of((address(is_narrow), any::<u16>())),
    );
    let rest = (
        any::<[u32; 2]>(),
        any::<[u8; 4]>(),
        any::<[u16; 3]>(),
        any::<[u8; 6]>(),
    );
    (ends, rest).prop_map(|((ends, ports, source), (longs, bytes, words, mac))| {
        let [client, service, backend] = ends;
        let [client_port, service_port, backend_port] = ports;
        Record {
            client,
            client_port,
            service,
            service_port,
            protocol: bytes[0],
            backend,
            backend_port,
            source,
            lifetime: longs[0],
            client_state: bytes[1],
            backend_state: bytes[2],
            backend_sequence: words[0],
            sequence_delta: (longs[1] % 2 == 1).then_some(longs[1]),
            mac,
            tags: (words[1], words[2]),
            interface: bytes[3],
        }
    })
}

fn nothing(_: &[u8]) -> [u8; MAC] {
    [7; MAC]
}

proptest! {
    #[test]
    fn flows_survive_the_way(is_narrow: bool, records in any::<bool>().prop_flat_map(|narrow| (Just(narrow), proptest::collection::vec(record(narrow), 1..MOST_WIDE)))) {
        let (fits, records) = records;
        let mut batch = Batch::new(is_narrow && fits);
        for record in &records {
            batch.push(record);
        }
        prop_assert_eq!(message(batch.bytes()), Ok(Message::Flows(records)));
    }

    #[test]
    fn a_state_survives_the_way(
        interfaces in proptest::collection::vec("[a-z0-9.]{1,15}", 0..MOST_INTERFACES),
        held in proptest::collection::vec(address(false), 0..MOST_ADDRESSES),
        has_told: bool,
    ) {
        let state = State { interfaces, held, has_told };
        prop_assert!(state.bytes().len() <= ROOM);
        prop_assert_eq!(message(&state.bytes()), Ok(Message::State(state)));
    }

    #[test]
    fn a_hello_survives_the_way(own: [u8; NONCE], yours: [u8; NONCE]) {
        let hello = Hello { own, yours };
        let bytes = hello.bytes(nothing);
        let Ok(Datagram::Hello(read, signed, mac)) = datagram(&bytes) else {
            return Err(TestCaseError::fail("no hello"));
        };
        prop_assert_eq!(read, hello);
        prop_assert_eq!(signed.len() + MAC, bytes.len());
        prop_assert_eq!(mac, &[7; MAC]);
    }

    #[test]
    fn hostile_bytes_are_refused_or_read_and_never_more(
        bytes in proptest::collection::vec(any::<u8>(), 0..1500),
        begins_well: bool,
        kind in 0u8..5,
    ) {
        let mut bytes = bytes;
        if begins_well && bytes.len() >= 6 {
            bytes[..4].copy_from_slice(&MARK);
            bytes[4] = VERSION;
            bytes[5] = kind;
        }
        let _ = datagram(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        if let Ok(Message::Flows(flows)) = message(&bytes) {
            prop_assert!(flows.len() <= 255);
        }
    }

    #[test]
    fn what_is_cut_short_is_refused(record in record(true), cut in 1usize..40) {
        let mut batch = Batch::new(true);
        batch.push(&record);
        let bytes = batch.bytes();
        prop_assert_eq!(message(&bytes[..bytes.len() - cut]), Err(Unreadable::Malformed));
    }
}

#[test]
fn a_full_batch_fits_into_a_datagram() {
    for (is_narrow, most) in [(true, 27), (false, 13)] {
        let record = Record {
            client: Address::from_v4([198, 51, 100, 7]),
            client_port: 1,
            service: Address::from_v4([203, 0, 113, 10]),
            service_port: 2,
            protocol: 6,
            backend: Address::from_v4([10, 0, 0, 11]),
            backend_port: 3,
            source: None,
            lifetime: 900_000,
            client_state: 0,
            backend_state: 4,
            backend_sequence: 5,
            sequence_delta: None,
            mac: [2; 6],
            tags: (0, 0),
            interface: 0,
        };
        assert!(record.is_narrow());
        let mut batch = Batch::new(is_narrow);
        let mut count = 1;
        while !batch.push(&record) {
            count += 1;
        }
        assert_eq!((count, batch.len()), (most, most));
        assert!(batch.bytes().len() + SEALED_HEAD + TAG <= LONGEST);
        batch.clear();
        assert!(batch.is_empty());
    }
}

#[test]
fn another_version_is_told_apart() {
    let mut bytes = Hello {
        own: [1; NONCE],
        yours: [2; NONCE],
    }
    .bytes(nothing);
    bytes[4] = 9;
    assert_eq!(datagram(&bytes).unwrap_err(), Unreadable::Version(9));
    bytes[0] = b'x';
    assert_eq!(datagram(&bytes).unwrap_err(), Unreadable::Malformed);
}
