//! A real server of names on the loopback, which answers what a test tells it to.

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};

/// What it says of the addresses of one family.
#[derive(Clone)]
pub enum Says {
    Addresses(Vec<IpAddr>, u32),
    Code(ResponseCode),
    /// Over UDP nothing but "ask by TCP".
    TooMuch(Vec<IpAddr>),
    Silence,
    /// What is no message of DNS.
    Garbage,
}

pub const NONE: Says = Says::Code(ResponseCode::NoError);
pub const GONE: Says = Says::Code(ResponseCode::NXDomain);
pub const BROKEN: Says = Says::Code(ResponseCode::ServFail);
pub const REFUSED: Says = Says::Code(ResponseCode::Refused);

pub fn some(list: &[&str], ttl: u32) -> Says {
    Says::Addresses(list.iter().map(|a| a.parse().unwrap()).collect(), ttl)
}

struct Zone {
    /// What comes next; the last one stays.
    v4: VecDeque<Says>,
    v6: VecDeque<Says>,
    asked: usize,
}

pub struct Server {
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl Server {
    /// Knows no name, until it is told.
    pub fn start() -> Self {
        let zone = Arc::new(Mutex::new(Zone {
            v4: [GONE].into(),
            v6: [NONE].into(),
            asked: 0,
        }));
        // The same port for both, as name servers have it.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let (by_udp, by_tcp) = (Arc::clone(&zone), Arc::clone(&zone));
        std::thread::spawn(move || {
            let mut packet = [0; 4096];
            while let Ok((n, from)) = udp.recv_from(&mut packet) {
                if let Some(answer) = answer(&by_udp, &packet[..n], false) {
                    udp.send_to(&answer, from).unwrap();
                }
            }
        });
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let mut length = [0; 2];
                while stream.read_exact(&mut length).is_ok() {
                    let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
                    stream.read_exact(&mut packet).unwrap();
                    let Some(answer) = answer(&by_tcp, &packet, true) else {
                        break;
                    };
                    let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                    stream.write_all(&[&length[..], &answer].concat()).unwrap();
                }
            }
        });
        Self { address, zone }
    }

    pub fn says(&self, v4: Says, v6: Says) {
        self.says_in_turn([(v4, v6)]);
    }

    /// Each in answer to one question of each family, the last one from then on.
    pub fn says_in_turn(&self, all: impl IntoIterator<Item = (Says, Says)>) {
        let mut zone = self.zone.lock().unwrap();
        (zone.v4, zone.v6) = all.into_iter().unzip();
    }

    /// Questions so far.
    pub fn asked(&self) -> usize {
        self.zone.lock().unwrap().asked
    }
}

fn answer(zone: &Mutex<Zone>, question: &[u8], tcp: bool) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).unwrap();
    let query = question.queries[0].clone();
    let says = {
        let mut zone = zone.lock().unwrap();
        zone.asked += 1;
        let of = match query.query_type() {
            RecordType::A => &mut zone.v4,
            _ => &mut zone.v6,
        };
        match of.len() {
            1 => of[0].clone(),
            _ => of.pop_front().unwrap(),
        }
    };
    let mut message = question.into_response();
    let mut put = |list: Vec<IpAddr>, ttl| {
        for ip in list {
            let data = match ip {
                IpAddr::V4(ip) => RData::A(ip.into()),
                IpAddr::V6(ip) => RData::AAAA(ip.into()),
            };
            message.add_answer(Record::from_rdata(query.name().clone(), ttl, data));
        }
    };
    match says {
        Says::Addresses(list, ttl) => put(list, ttl),
        Says::TooMuch(list) if tcp => put(list, 60),
        Says::TooMuch(_) => message.metadata.truncation = true,
        Says::Code(code) => message.metadata.response_code = code,
        Says::Silence => return None,
        Says::Garbage => return Some(b"no message of DNS".to_vec()),
    }
    Some(message.to_vec().unwrap())
}
