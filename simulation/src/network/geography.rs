//! Nineteen regions of the world and how far apart they are.
//!
//! One way from region to region takes 2 ms and a millisecond for each 150 km of the great circle; there and back
//! that is 4 ms + km/75. Light in fibre does 200 km per millisecond; the rest is what cables are longer than great
//! circles. London to Ashburn and back comes out at 83 ms, Frankfurt to Singapore at 141 ms.

use serde::{Deserialize, Serialize};

/// A city with a data centre.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[repr(u8)]
pub enum Region {
    /// Amsterdam, the Netherlands.
    Amsterdam,
    /// Ashburn, Virginia.
    Ashburn,
    /// Bogotá, Colombia.
    Bogota,
    /// Chicago, Illinois.
    Chicago,
    /// Dallas, Texas.
    Dallas,
    /// Frankfurt, Germany.
    #[default]
    Frankfurt,
    /// Johannesburg, South Africa.
    Johannesburg,
    /// London, United Kingdom.
    London,
    /// Los Angeles, California.
    LosAngeles,
    /// Mumbai, India.
    Mumbai,
    /// Paris, France.
    Paris,
    /// San Jose, California.
    SanJose,
    /// Santiago, Chile.
    Santiago,
    /// São Paulo, Brazil.
    SaoPaulo,
    /// Singapore.
    Singapore,
    /// Stockholm, Sweden.
    Stockholm,
    /// Sydney, Australia.
    Sydney,
    /// Tokyo, Japan.
    Tokyo,
    /// Toronto, Canada.
    Toronto,
}

impl Region {
    /// All, in alphabetical order.
    pub const ALL: [Self; 19] = [
        Self::Amsterdam,
        Self::Ashburn,
        Self::Bogota,
        Self::Chicago,
        Self::Dallas,
        Self::Frankfurt,
        Self::Johannesburg,
        Self::London,
        Self::LosAngeles,
        Self::Mumbai,
        Self::Paris,
        Self::SanJose,
        Self::Santiago,
        Self::SaoPaulo,
        Self::Singapore,
        Self::Stockholm,
        Self::Sydney,
        Self::Tokyo,
        Self::Toronto,
    ];

    /// Kilometres to `other` along the great circle.
    pub const fn km(self, other: Self) -> u64 {
        KM[self as usize][other as usize] as u64
    }

    /// Nanoseconds one way to `other`, without access at either end; zero within a region.
    pub const fn one_way_ns(self, other: Self) -> u64 {
        if self as u8 == other as u8 {
            return 0;
        }
        2_000_000 + self.km(other) * 1_000_000 / 150
    }
}

#[rustfmt::skip]
const KM: [[u16; 19]; 19] = [
    [0, 6208, 8845, 6608, 7901, 364, 9022, 358, 8939, 6852, 430, 8792, 12013, 9805, 10492, 1125, 16643, 9289, 5982],
    [6208, 0, 3833, 913, 1868, 6549, 13087, 5917, 3652, 12855, 6186, 3846, 8091, 7664, 15522, 6647, 15674, 10872, 536],
    [8845, 3833, 0, 4347, 3912, 9089, 11447, 8491, 5597, 15534, 8622, 6051, 4258, 4328, 19302, 9678, 14334, 14310, 4361],
    [6608, 913, 4347, 0, 1295, 6964, 13983, 6353, 2804, 12946, 6650, 2958, 8554, 8408, 15072, 6880, 14876, 10139, 701],
    [7901, 1868, 3912, 1295, 0, 8256, 14686, 7641, 1991, 14145, 7934, 2332, 7856, 8217, 15646, 8164, 13818, 10398, 1937],
    [364, 6549, 9089, 6964, 8256, 0, 8698, 638, 9303, 6564, 478, 9153, 12110, 9829, 10258, 1187, 16483, 9333, 6333],
    [9022, 13087, 11447, 13983, 14686, 8698, 0, 9070, 16674, 6983, 8729, 16932, 9178, 7429, 8659, 9555, 11041, 13539, 13338],
    [358, 5917, 8491, 6353, 7641, 638, 9070, 0, 8755, 7192, 343, 8632, 11673, 9497, 10848, 1433, 16994, 9559, 5712],
    [8939, 3652, 5597, 2804, 1991, 9303, 16674, 8755, 0, 13991, 9085, 492, 8998, 9906, 14122, 8880, 12074, 8817, 3494],
    [6852, 12855, 15534, 12946, 14145, 6564, 6983, 7192, 13991, 0, 7009, 13553, 16071, 13774, 3904, 6229, 10157, 6723, 12488],
    [430, 6186, 8622, 6650, 7934, 478, 8729, 343, 9085, 7009, 0, 8968, 11649, 9402, 10729, 1543, 16961, 9713, 6000],
    [8792, 3846, 6051, 2958, 2332, 9153, 16932, 8632, 492, 13553, 8968, 0, 9490, 10370, 13647, 8652, 11964, 8337, 3622],
    [12013, 8091, 4258, 8554, 7856, 12110, 9178, 11673, 8998, 16071, 11649, 9490, 0, 2586, 16400, 13087, 11346, 17235, 8619],
    [9805, 7664, 4328, 8408, 8217, 9829, 7429, 9497, 9906, 13774, 9402, 10370, 2586, 0, 15987, 10927, 13357, 18535, 8186],
    [10492, 15522, 19302, 15072, 15646, 10258, 8659, 10848, 14122, 3904, 10729, 13647, 16400, 15987, 0, 9637, 6306, 5314, 15001],
    [1125, 6647, 9678, 6880, 8164, 1187, 9555, 1433, 8880, 6229, 1543, 8652, 13087, 10927, 9637, 0, 15596, 8170, 6329],
    [16643, 15674, 14334, 14876, 13818, 16483, 11041, 16994, 12074, 10157, 16961, 11964, 11346, 13357, 6306, 15596, 0, 7826, 15568],
    [9289, 10872, 14310, 10139, 10398, 9333, 13539, 9559, 8817, 6723, 9713, 8337, 17235, 18535, 5314, 8170, 7826, 0, 10350],
    [5982, 536, 4361, 701, 1937, 6333, 13338, 5712, 3494, 12488, 6000, 3622, 8619, 8186, 15001, 6329, 15568, 10350, 0],
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Degrees of latitude and longitude, times 100.
    const PLACES: [(i32, i32); 19] = [
        (5237, 490),
        (3904, -7749),
        (471, -7407),
        (4188, -8763),
        (3278, -9680),
        (5011, 868),
        (-2620, 2805),
        (5151, -13),
        (3405, -11824),
        (1908, 7288),
        (4886, 235),
        (3734, -12189),
        (-3345, -7067),
        (-2355, -4663),
        (135, 10382),
        (5933, 1807),
        (-3387, 15121),
        (3568, 13969),
        (4365, -7938),
    ];

    #[test]
    fn kilometres_are_the_great_circles_of_the_coordinates() {
        let radians = |hundredths: i32| f64::from(hundredths).to_radians() / 100.0;
        for (a, (lat_a, lon_a)) in Region::ALL.into_iter().zip(PLACES) {
            for (b, (lat_b, lon_b)) in Region::ALL.into_iter().zip(PLACES) {
                let north = (radians(lat_b - lat_a) / 2.0).sin().powi(2);
                let east = (radians(lon_b - lon_a) / 2.0).sin().powi(2);
                let half = north + radians(lat_a).cos() * radians(lat_b).cos() * east;
                let km = 2.0 * 6371.0 * half.sqrt().asin();
                assert!((a.km(b) as f64 - km).abs() <= 1.0, "{a:?} {b:?}: {km}");
            }
        }
    }

    #[test]
    fn round_trips_are_close_to_what_is_measured() {
        let round_trip_ms = |a: Region, b| 2 * a.one_way_ns(b) / 1_000_000;
        assert_eq!(round_trip_ms(Region::London, Region::Ashburn), 82);
        assert_eq!(round_trip_ms(Region::Frankfurt, Region::Singapore), 140);
        assert_eq!(round_trip_ms(Region::Ashburn, Region::SanJose), 55);
        assert_eq!(round_trip_ms(Region::Paris, Region::Paris), 0);
    }
}
