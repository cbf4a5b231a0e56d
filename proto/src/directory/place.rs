//! Where somebody is, as far as the server can tell, and how far apart two of them are.

/// What is known of a participant's place. Everything is optional; the empty place is "somewhere".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// Continent first, then finer: `eu`, `eu-west`, `eu/de`, `na/us/ca`. Case doesn't matter. Empty: unknown.
    pub region: String,
    /// Latitude and longitude in degrees.
    pub position: Option<(f32, f32)>,
    /// Autonomous system: the access provider.
    pub asn: Option<u32>,
    /// Number of the address prefix (an IPv4 /24 or IPv6 /48): equal numbers are the same network.
    pub network: Option<u64>,
    /// Seen at a private or loopback address: its addresses mean nothing to participants seen at public ones.
    pub private: bool,
}

/// How far apart two places are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proximity {
    /// The same address prefix.
    SameNetwork,
    /// The same region, or within [`REGION_KM`].
    SameRegion,
    /// The same continent, or within [`CONTINENT_KM`].
    SameContinent,
    /// Farther, or unknown.
    Far,
}

/// Two positions this close count as one region, km: at 1 ms of round trip per 100 km of fibre, less than the access
/// links add. A guess.
pub const REGION_KM: f32 = 500.0;

/// Two positions this close count as one continent, km: some 50 ms of round trip. A guess.
pub const CONTINENT_KM: f32 = 3_500.0;

/// Longest region, bytes; the rest is cut off.
pub const REGION_LEN_MAX: usize = 32;

impl Proximity {
    /// The number that [`crate::wire::Hint::proximity`] carries.
    pub fn class(self) -> u8 {
        match self {
            Self::SameNetwork => 0,
            Self::SameRegion => 1,
            Self::SameContinent => 2,
            Self::Far => 3,
        }
    }
}

impl Place {
    /// The distance between two places. Positions beat regions; a shared prefix beats both, unless the regions contradict
    /// it (which only happens where people declare them, behind one private or loopback address).
    pub fn proximity(&self, other: &Self) -> Proximity {
        let same_region = !self.region.is_empty() && self.region == other.region;
        let contradicting = !same_region && !self.region.is_empty() && !other.region.is_empty();
        if self.network.is_some() && self.network == other.network && !contradicting {
            return Proximity::SameNetwork;
        }
        if let (Some(here), Some(there)) = (self.position, other.position) {
            return match distance_km(here, there) {
                km if km <= REGION_KM => Proximity::SameRegion,
                km if km <= CONTINENT_KM => Proximity::SameContinent,
                _ => Proximity::Far,
            };
        }
        if same_region {
            return Proximity::SameRegion;
        }
        let continent = continent(&self.region);
        if !continent.is_empty() && continent == self::continent(&other.region) {
            return Proximity::SameContinent;
        }
        Proximity::Far
    }

    /// For people: `eu/de, AS3320`.
    pub fn describe(&self) -> String {
        let region = if self.region.is_empty() { "somewhere" } else { &self.region };
        match self.asn {
            Some(asn) => format!("{region}, AS{asn}"),
            None => region.to_owned(),
        }
    }

    /// This place with hostile values made harmless; a participant's own claim of a region counts where nothing better
    /// is known.
    pub(super) fn sound(self, declared: &str) -> Self {
        let region = match normalised(&self.region) {
            known if known.is_empty() => normalised(declared),
            known => known,
        };
        let position = self.position.filter(|(lat, lon)| lat.abs() <= 90.0 && lon.abs() <= 180.0);
        Self { region, position, ..self }
    }
}

/// The continent of a normalised region: what stands before the first separator.
pub(super) fn continent(region: &str) -> &str {
    region.split(['-', '/']).next().unwrap_or_default()
}

/// Lower case, separators unified, nothing that would disturb a log or a page.
fn normalised(region: &str) -> String {
    let plain = |c: char| match c {
        '_' | ' ' | '.' | ':' => Some('-'),
        '-' | '/' => Some(c),
        c if c.is_ascii_alphanumeric() => Some(c.to_ascii_lowercase()),
        _ => None,
    };
    let region: String = region.trim().chars().filter_map(plain).take(REGION_LEN_MAX).collect();
    region.trim_matches(['-', '/']).to_owned()
}

/// Great-circle distance (haversine formula; mean Earth radius 6,371 km, IUGG).
fn distance_km((lat1, lon1): (f32, f32), (lat2, lon2): (f32, f32)) -> f32 {
    let half_chord = |a: f32, b: f32| ((b - a).to_radians() / 2.0).sin().powi(2);
    let h = half_chord(lat1, lat2) + lat1.to_radians().cos() * lat2.to_radians().cos() * half_chord(lon1, lon2);
    2.0 * 6_371.0 * h.clamp(0.0, 1.0).sqrt().asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str) -> Place {
        Place::default().sound(name)
    }

    #[test]
    fn regions_compare_by_continent_and_without_case() {
        assert_eq!(region("EU").proximity(&region("eu")), Proximity::SameRegion);
        assert_eq!(region("eu-west").proximity(&region("eu/de")), Proximity::SameContinent);
        assert_eq!(region("eu_west").proximity(&region("EU West")), Proximity::SameRegion);
        assert_eq!(region("eu").proximity(&region("na")), Proximity::Far);
        assert_eq!(region("").proximity(&region("")), Proximity::Far);
    }

    #[test]
    fn positions_beat_regions() {
        let at = |lat, lon, name| Place { position: Some((lat, lon)), ..region(name) };
        let (berlin, hamburg) = (at(52.5, 13.4, "eu/de"), at(53.6, 10.0, "eu/de"));
        let (lisbon, tokyo) = (at(38.7, -9.1, "eu/pt"), at(35.7, 139.7, "eu/de"));
        assert_eq!(berlin.proximity(&hamburg), Proximity::SameRegion);
        assert_eq!(berlin.proximity(&lisbon), Proximity::SameContinent);
        assert_eq!(berlin.proximity(&tokyo), Proximity::Far);
        assert!((distance_km((52.5, 13.4), (35.7, 139.7)) - 8_920.0).abs() < 50.0);
    }

    #[test]
    fn a_shared_prefix_counts_unless_the_regions_contradict_it() {
        let here = |name| Place { network: Some(7), ..region(name) };
        assert_eq!(here("").proximity(&here("")), Proximity::SameNetwork);
        assert_eq!(here("eu").proximity(&here("")), Proximity::SameNetwork);
        assert_eq!(here("eu").proximity(&here("na")), Proximity::Far);
    }

    #[test]
    fn hostile_values_are_made_harmless() {
        let place = Place { position: Some((f32::NAN, 1e30)), region: "<b>\n\u{202e}".to_owned(), ..Place::default() };
        let place = place.sound(&"x".repeat(1_000));
        assert_eq!(place.position, None);
        assert_eq!(place.region, "b");
        assert_eq!(Place::default().sound(&"x/".repeat(1_000)).region.len(), REGION_LEN_MAX - 1);
    }
}
