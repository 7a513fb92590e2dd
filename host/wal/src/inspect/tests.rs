use super::holder::holder_in;

#[test]
fn the_holder_of_a_lock_is_found_among_all_locks() {
    let locks = "1: POSIX  ADVISORY  WRITE 7 08:01:131 0 EOF\n\
                 2: FLOCK  ADVISORY  WRITE 1234 08:01:131 0 EOF\n\
                 2: -> FLOCK  ADVISORY  WRITE 99 08:01:131 0 EOF\n\
                 3: FLOCK  ADVISORY  WRITE 0 00:2a:132 0 EOF\n";
    for (inode, said, holder) in [
        (131, None, Some(1234)),
        (131, Some(5), Some(1234)),
        (132, Some(5), Some(5)),
        (132, None, Some(0)),
        (133, Some(5), None),
    ] {
        assert_eq!(holder_in(locks, inode, said), holder, "{inode} {said:?}");
    }
}
