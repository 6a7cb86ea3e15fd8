use super::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket with a number, which is quiet until told otherwise.
#[derive(Debug, Clone)]
struct Fake {
    number: u32,
    quiet: Rc<Cell<bool>>,
}

impl AsyncRead for Fake {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}
impl AsyncWrite for Fake {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, b: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(b.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
impl Socket for Fake {
    fn is_quiet(&mut self) -> bool {
        self.quiet.get()
    }
}

fn fake(number: u32) -> Fake {
    Fake {
        number,
        quiet: Rc::new(Cell::new(true)),
    }
}

fn key(port: u16) -> PoolKey {
    PoolKey {
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        tls: 0,
    }
}

fn pool(per_key: usize, total: usize) -> Rc<Pool<Fake>> {
    let config = PoolConfig {
        per_key,
        total,
        ..PoolConfig::default()
    };
    Pool::new(config, Arc::default())
}

fn put(pool: &Rc<Pool<Fake>>, of: PoolKey, socket: Fake) {
    pool.put(of, H1Up::new(socket));
}

fn take(pool: &Rc<Pool<Fake>>, of: PoolKey) -> Option<u32> {
    pool.take(of).map(|up| up.socket().number)
}

#[test]
fn the_newest_is_taken_first() {
    let pool = pool(8, 8);
    for n in 1..=3 {
        put(&pool, key(1), fake(n));
    }
    put(&pool, key(2), fake(9));
    assert_eq!(
        [
            take(&pool, key(1)),
            take(&pool, key(1)),
            take(&pool, key(1)),
            take(&pool, key(1))
        ],
        [Some(3), Some(2), Some(1), None]
    );
    assert_eq!((take(&pool, key(2)), pool.is_empty()), (Some(9), true));
}

#[test]
fn keys_with_other_tls_do_not_share() {
    let pool = pool(8, 8);
    put(&pool, PoolKey { tls: 7, ..key(1) }, fake(1));
    assert_eq!(take(&pool, key(1)), None);
    assert_eq!(take(&pool, PoolKey { tls: 7, ..key(1) }), Some(1));
}

#[test]
fn the_oldest_makes_room() {
    let pool = pool(2, 3);
    put(&pool, key(1), fake(1));
    put(&pool, key(1), fake(2));
    put(&pool, key(1), fake(3)); // the key's oldest goes
    put(&pool, key(2), fake(4));
    put(&pool, key(3), fake(5)); // the oldest of all goes
    assert_eq!(pool.len(), 3);
    assert_eq!([take(&pool, key(1)), take(&pool, key(1))], [Some(3), None]);
    assert_eq!(pool.counters.evicted.load(Relaxed), 2);
    assert_eq!(pool.counters.idle.load(Relaxed), 2);
}

#[test]
fn dead_old_and_worn_connections_are_not_given_out() {
    let pool = pool(8, 8);
    let dead = fake(1);
    put(&pool, key(1), dead.clone());
    let worn = Idle {
        uses: 10_000,
        ..Idle::default()
    };
    pool.put(key(1), H1Up::on(fake(2), None, worn));
    assert_eq!(pool.len(), 1, "worn out");
    dead.quiet.set(false);
    assert_eq!(take(&pool, key(1)), None);
    assert_eq!(pool.counters.dead.load(Relaxed), 1);

    let config = PoolConfig {
        idle: Duration::ZERO,
        ..PoolConfig::default()
    };
    let pool = Pool::new(config, Arc::default());
    put(&pool, key(1), fake(1));
    put(&pool, key(2), fake(2));
    let since = Instant::now();
    while since.elapsed().is_zero() {}
    assert_eq!(take(&pool, key(1)), None);
    pool.sweep();
    assert!(pool.is_empty());
    assert_eq!(pool.counters.expired.load(Relaxed), 2);
    assert_eq!(pool.counters.idle.load(Relaxed), 0);
}

#[test]
fn a_sweep_and_a_forgotten_key_leave_the_others() {
    let pool = pool(8, 8);
    let dead = fake(1);
    put(&pool, key(1), dead.clone());
    put(&pool, key(1), fake(2));
    put(&pool, key(2), fake(3));
    dead.quiet.set(false);
    pool.sweep();
    assert_eq!(pool.len(), 2);
    pool.forget(key(1));
    assert_eq!((take(&pool, key(1)), take(&pool, key(2))), (None, Some(3)));
    let counters = pool.counters.clone();
    put(&pool, key(1), fake(4));
    drop(pool);
    assert_eq!(counters.idle.load(Relaxed), 0);
}

proptest! {
    #[test]
    fn the_pool_behaves_like_a_plain_list(ops in prop::collection::vec((0..3u16, any::<bool>()), 0..80)) {
        let pool = pool(3, 6);
        let mut plain: Vec<(u16, u32)> = Vec::new(); // oldest first
        for (n, (of, back)) in ops.into_iter().enumerate() {
            let n = n as u32;
            if back {
                put(&pool, key(of), fake(n));
                if plain.iter().filter(|e| e.0 == of).count() >= 3 {
                    let at = plain.iter().position(|e| e.0 == of).unwrap();
                    plain.remove(at);
                } else if plain.len() >= 6 {
                    plain.remove(0);
                }
                plain.push((of, n));
            } else {
                let at = plain.iter().rposition(|e| e.0 == of);
                let expected = at.map(|at| plain.remove(at).1);
                prop_assert_eq!(take(&pool, key(of)), expected);
            }
            prop_assert_eq!(pool.len(), plain.len());
            prop_assert_eq!(pool.counters.idle.load(Relaxed), plain.len() as u64);
        }
    }
}

#[test]
fn an_upstream_may_keep_fewer_connections_than_the_pool_allows() {
    let pool = pool(8, 8);
    let keep = Keep {
        connections: 2,
        ..Keep::default()
    };
    let idle = Idle { uses: 1, keep };
    for n in 1..=4 {
        pool.put(key(1), H1Up::on(fake(n), None, idle));
    }
    assert_eq!(pool.len(), 2);
    let brief = Keep {
        idle: Duration::ZERO,
        ..keep
    };
    pool.put(
        key(2),
        H1Up::on(
            fake(5),
            None,
            Idle {
                keep: brief,
                ..idle
            },
        ),
    );
    pool.sweep();
    assert_eq!(
        pool.len(),
        2,
        "a connection that may not be idle at all goes"
    );
}
