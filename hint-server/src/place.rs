//! From an address to a place: by database, and by address prefix.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use maxminddb::{MaxMindDbError, Reader, geoip2};
use starling_proto::directory::Place;
use thiserror::Error;

use crate::address::{Reach, reach};

/// Looks addresses up.
#[derive(Debug, Default)]
pub(crate) struct Places {
    cities: Option<Reader<Vec<u8>>>,
    providers: Option<Reader<Vec<u8>>>,
}

/// Why a database can't be used.
#[derive(Debug, Error)]
#[error("cannot use {} as a geo database ({source}): give a .mmdb file in MaxMind format, or leave the option out", path.display())]
pub struct GeoIpError {
    path: PathBuf,
    source: MaxMindDbError,
}

/// Countries so large that a viewer's state or province says more than the country: those above 2.5 million km².
const LARGE_COUNTRIES: [&str; 9] = ["RU", "CA", "CN", "US", "BR", "AU", "IN", "AR", "KZ"];

impl Places {
    /// Reads the databases into memory.
    ///
    /// # Errors
    /// [`GeoIpError`] names the file that isn't one.
    pub(crate) fn open(cities: Option<&Path>, providers: Option<&Path>) -> Result<Self, GeoIpError> {
        let open =
            |path: &Path| Reader::open_readfile(path).map_err(|source| GeoIpError { path: path.to_owned(), source });
        Ok(Self { cities: cities.map(open).transpose()?, providers: providers.map(open).transpose()? })
    }

    /// What is known of an address. The region stays empty where the database knows nothing, and for private and loopback
    /// addresses: there the viewer's own word counts.
    pub(crate) fn locate(&self, ip: IpAddr) -> Place {
        let ip = ip.to_canonical();
        let private = reach(ip) != Reach::Public;
        let place = Place { network: Some(network(ip)), private, ..Place::default() };
        if private { place } else { self.look_up(ip, place) }
    }

    fn look_up(&self, ip: IpAddr, place: Place) -> Place {
        let city: Option<geoip2::City<'_>> = decode(self.cities.as_ref(), ip);
        let provider: Option<geoip2::Asn<'_>> = decode(self.providers.as_ref(), ip);
        let position =
            city.as_ref().and_then(|city| Some((city.location.latitude? as f32, city.location.longitude? as f32)));
        let region = city.as_ref().map(region).unwrap_or_default();
        let asn = provider.and_then(|provider| provider.autonomous_system_number);
        Place { region, position, asn, ..place }
    }
}

fn decode<'a, T: serde::Deserialize<'a>>(reader: Option<&'a Reader<Vec<u8>>>, ip: IpAddr) -> Option<T> {
    let found = reader?.lookup(ip).and_then(|found| found.decode());
    // A damaged record must not cost a viewer its hints.
    found.unwrap_or_else(|error| {
        tracing::debug!(%error, "unreadable geo record");
        None
    })
}

/// `eu/de`, `na/us/ca`; what the record lacks is left out.
fn region(city: &geoip2::City<'_>) -> String {
    let country = city.country.iso_code.or(city.registered_country.iso_code);
    let state = city.subdivisions.first().and_then(|state| state.iso_code);
    let state = state.filter(|_| country.is_some_and(|country| LARGE_COUNTRIES.contains(&country)));
    let names: Vec<&str> = [city.continent.code, country, state].into_iter().flatten().collect();
    names.join("/").to_lowercase()
}

/// The number of an address's /24 or, for IPv6, /48: what access providers give a site or a street.
fn network(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => u64::from(u32::from(ip) >> 8),
        IpAddr::V6(ip) => 1 << 63 | (u128::from(ip) >> 80) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/places.mmdb")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("written here")
    }

    #[test]
    fn the_database_places_public_addresses() {
        let places = Places::open(Some(&sample()), Some(&sample())).expect("the sample is sound");
        let berlin = places.locate(ip("203.0.113.7"));
        assert_eq!((berlin.region.as_str(), berlin.asn, berlin.private), ("eu/de", Some(64_501), false));
        assert!(berlin.position.is_some_and(|(lat, lon)| (lat - 52.5).abs() < 0.1 && (lon - 13.4).abs() < 0.1));
        assert_eq!(places.locate(ip("198.51.100.7")).region, "na/us/ca");
        assert_eq!(places.locate(ip("::ffff:203.0.113.9")).region, "eu/de");
        assert_eq!(places.locate(ip("2001:db8:1::7")).region, "as/jp");
    }

    #[test]
    fn unknown_and_private_addresses_have_a_network_only() {
        let places = Places::open(Some(&sample()), None).expect("the sample is sound");
        let unknown = places.locate(ip("8.8.8.8"));
        assert_eq!((unknown.region.as_str(), unknown.position, unknown.private), ("", None, false));
        let home = places.locate(ip("10.0.0.5"));
        assert_eq!((home.region.as_str(), home.private), ("", true));
        assert_eq!(home.network, places.locate(ip("10.0.0.77")).network);
        assert_ne!(home.network, places.locate(ip("10.0.1.5")).network);
        assert_eq!(places.locate(ip("2001:db8:1:2::7")).network, places.locate(ip("2001:db8:1:9::1")).network);
    }

    #[test]
    fn files_that_are_no_database_are_named() {
        let error = Places::open(Some(Path::new(file!())), None).expect_err("source code is no database");
        assert!(error.to_string().contains("place.rs") && error.to_string().contains(".mmdb"), "{error}");
        let missing = Places::open(Some(Path::new("/nowhere.mmdb")), None).expect_err("not there");
        assert!(missing.to_string().contains("/nowhere.mmdb"), "{missing}");
    }
}
