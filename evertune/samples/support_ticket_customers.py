"""The customers of the sample shop: names, cities, streets and amounts of money of eleven countries."""

from typing import NamedTuple


class Country(NamedTuple):
    """A customer's country: its share of the customers, names, addresses, and ways to write an amount."""

    weight: int
    first: tuple[str, ...]
    last: tuple[str, ...]
    cities: tuple[str, ...]
    streets: tuple[str, ...]
    amounts: tuple[str, ...]


_CENTS = "[00|20|45|49|50|90|95|99]"
_TENS = "[1|2|3|4|5|6|7|8|9]^"
_EURO = (f"€{_TENS}.{_CENTS}", f"{_TENS},{_CENTS} €", f"{_TENS} euros", f"{_TENS}.{_CENTS} EUR", "€1^^", f"{_TENS}€")
_CROWNS = ("[1|2|3|4|6|8]^9 kr", "[1|2|3|5|7]^^ SEK", "1 [0|1|2]^9 kr", "[4|5|6]^^:-")

COUNTRIES = (
    Country(
        30,
        (
            "Sarah",
            "James",
            "Olivia",
            "Harry",
            "Chloe",
            "Mohammed",
            "Amelia",
            "Callum",
            "Priya",
            "Gareth",
            "Aoife",
            "Leo",
        ),
        (
            "Whitfield",
            "Okafor",
            "Patel",
            "Hughes",
            "Brennan",
            "McAllister",
            "Shaw",
            "Begum",
            "O'Neill",
            "Turner",
            "Ward",
        ),
        ("Leeds", "Bristol", "Cardiff", "Glasgow", "Norwich", "Belfast", "Manchester", "Exeter", "Derby"),
        (
            "[2|4|6|8]^ Rosewood Lane",
            "1^ Mill Road",
            "Flat ^, ^^ Canal Street",
            "[3|5|7]^ Station Road",
            "^^ Abbey Close",
        ),
        (f"£{_TENS}.{_CENTS}", f"£{_TENS}", f"{_TENS} pounds", "£1^^", f"{_TENS}.{_CENTS} GBP", f"{_TENS} quid"),
    ),
    Country(
        26,
        ("Emily", "Tyler", "Jasmine", "Marcus", "Brooke", "Diego", "Ashley", "Wei", "Hannah", "Jamal", "Kayla", "Ruth"),
        (
            "Johnson",
            "Ramirez",
            "Nguyen",
            "Carter",
            "Kowalczyk",
            "Reed",
            "Washington",
            "Kim",
            "Delgado",
            "Sullivan",
            "Fox",
        ),
        ("Austin", "Columbus", "Portland", "Tampa", "Denver", "Madison", "Albuquerque", "Buffalo", "Oakland"),
        (
            "[1|2|4|8]^^ Elm Street",
            "1^^^ Birch Ave",
            "[3|5|7]^^ Lakeview Dr",
            "2^ W 8^th St Apt ^",
            "[6|9]^^^ Hollow Rd",
        ),
        (f"${_TENS}.{_CENTS}", f"${_TENS}", f"{_TENS} dollars", "$1^^", f"{_TENS} bucks", f"USD {_TENS}.{_CENTS}"),
    ),
    Country(
        14,
        ("Jürgen", "Anke", "Björn", "Lena", "Käthe", "Tobias", "Heike", "Emre", "Sören", "Annika", "Mehmet", "Ulrike"),
        ("Müller", "Schäfer", "Weiß", "Krüger", "Yılmaz", "Hoffmann", "Böhm", "Lehmann", "Özdemir", "Vogt", "Groß"),  # noqa: RUF001
        ("Köln", "München", "Leipzig", "Nürnberg", "Hamburg", "Lübeck", "Wien", "Göttingen"),
        ("Lindenweg ^^", "Goethestraße 1^", "Am Mühlbach ^", "Bahnhofstr. [2|4|7]^", "Schloßallee ^^"),
        _EURO,
    ),
    Country(
        7,
        ("Zoé", "Mathieu", "Hélène", "Rémi", "Chloé", "François", "Amélie", "Youssef", "Noémie", "Loïc"),
        ("Lefèvre", "Dubois", "Garnier", "Benoît", "Moreau", "Haddad", "Chevallier", "Gérard", "Petit"),
        ("Lyon", "Nantes", "Orléans", "Besançon", "Bordeaux", "Liège", "Saint-Étienne"),
        ("^^ rue des Lilas", "1^ avenue Jean Jaurès", "^ place de l'Église", "4^ boulevard Voltaire"),
        _EURO,
    ),
    Country(
        5,
        ("Lucía", "Íñigo", "Beatriz", "Andrés", "Maria José", "Nuño", "Pilar", "João", "Inês", "Tomás"),
        ("García", "Muñoz", "Fernández", "Ibáñez", "Gonçalves", "Peña", "Simões", "Vázquez", "Araújo"),
        ("Málaga", "A Coruña", "Zaragoza", "Sevilla", "Braga", "Évora", "Bilbao"),
        ("Calle Mayor ^^", "Av. da Liberdade 1^", "C/ Alcalá 2^, 3º B", "Rua das Flores ^^"),
        _EURO,
    ),
    Country(
        4,
        ("Giulia", "Niccolò", "Chiara", "Davide", "Fabrizio", "Noè", "Elena", "Paolo"),
        ("Ricci", "D'Angelo", "Colombo", "Ferrarò", "Esposito", "Greco", "Marchetti"),
        ("Torino", "Forlì", "Bologna", "Napoli", "Cantù"),
        ("Via Garibaldi ^^", "Piazza Dante ^", "Corso Umberto I 1^"),
        _EURO,
    ),
    Country(
        4,
        ("Łukasz", "Małgorzata", "Paweł", "Zofia", "Grażyna", "Michał", "Agnieszka", "Jiří"),
        ("Wójcik", "Kowalska", "Dąbrowski", "Zając", "Nowák", "Szczepański", "Lis"),
        ("Łódź", "Kraków", "Poznań", "Gdańsk", "Wrocław"),
        ("ul. Długa ^^", "ul. Słowackiego 1^/^", "os. Zwycięstwa ^"),
        ("[1|2|3|4]^9 zł", f"{_TENS},{_CENTS} zł", f"{_TENS} PLN", "1^^ zloty"),
    ),
    Country(
        4,
        ("Åsa", "Göran", "Linnéa", "Mikkel", "Søren", "Ingrid", "Øystein", "Saga"),
        ("Sjöberg", "Lindqvist", "Ødegård", "Åkesson", "Nyström", "Hansen", "Bjørnstad"),
        ("Malmö", "Göteborg", "Tromsø", "Växjö", "Århus", "Umeå"),
        ("Storgatan ^^", "Kungsvägen 1^", "Bjørkeveien ^", "Ågatan [2|4]^"),
        _CROWNS,
    ),
    Country(
        3,
        ("Urs", "Céline", "Reto", "Silvia", "Beat", "Noëlle", "Flurina"),
        ("Zürcher", "Aebischer", "Rüegg", "Favre", "Caduff", "Müri"),
        ("Zürich", "Genève", "Chur", "Neuchâtel", "Bern"),
        ("Seestrasse ^^", "Rue du Lac 1^", "Im Gässli ^"),
        (f"CHF {_TENS}.{_CENTS}", f"{_TENS}.- CHF", "Fr. 1^^.-", f"{_TENS} francs"),
    ),
    Country(
        2,
        ("Ayşe", "Çağla", "Burak", "Gül", "Ömer"),
        ("Şahin", "Çelik", "Yıldız", "Arslan"),  # noqa: RUF001
        ("İzmir", "Eskişehir", "Bursa"),
        ("Atatürk Cad. ^^", "Çınar Sok. ^/^"),  # noqa: RUF001
        ("[4|6|8|9]^^ TL", "1.^^0 TL", "₺7^^"),
    ),
    Country(
        3,
        ("Siobhán", "Seán", "Niamh", "Tadhg", "Gráinne", "Pádraig"),
        ("Ó Briain", "Murphy", "Ní Dhomhnaill", "Keane", "Doyle"),
        ("Galway", "Cork", "Dún Laoghaire", "Sligo"),
        ("^^ Quay Street", "Apt ^, Shannon Court", "1^ Church Hill"),
        _EURO,
    ),
)
