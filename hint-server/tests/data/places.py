"""Writes places.mmdb: documentation address ranges in made-up places, for the tests. Needs PyPI's mmdb-writer."""

from netaddr import IPSet
from mmdb_writer import MMDBWriter

writer = MMDBWriter(
    ip_version=6,
    ipv4_compatible=True,
    database_type="GeoLite2-City",
    languages=["en"],
    description="Starling's tests",
    int_type="u32",
)


def place(prefix, continent, country, position, asn, subdivision=None):
    record = {
        "continent": {"code": continent},
        "country": {"iso_code": country},
        "location": {"latitude": position[0], "longitude": position[1]},
        "autonomous_system_number": asn,
    }
    if subdivision:
        record["subdivisions"] = [{"iso_code": subdivision}]
    writer.insert_network(IPSet([prefix]), record)


place("203.0.113.0/24", "EU", "DE", (52.52, 13.4), 64501)
place("192.0.2.0/24", "EU", "FR", (48.85, 2.35), 64502)
place("198.51.100.0/24", "NA", "US", (37.77, -122.42), 64503, subdivision="CA")
place("2001:db8:1::/48", "AS", "JP", (35.68, 139.69), 64504)
writer.to_db_file("places.mmdb")
