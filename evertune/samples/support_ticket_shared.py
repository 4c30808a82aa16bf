"""What tickets of every intent share: slots, openings, closings, fillers and the truly ambiguous short ones.

A phrase is a small grammar: `[a|b|]` is one of the alternatives, `{name}` a slot, filled once per ticket, `^` a digit.
"""

from typing import NamedTuple

SLOTS: dict[str, tuple[str, ...]] = {
    "order": ("EV-[1|2|3|4|5|6|7|8|9]^^^^^", "EV[1|3|4|6|8|9]^^^^^", "#[2|3|4|5|7|8]^^^^^", "[2|4|5|6|7|9]^^^^^^"),
    "order2": ("EV-[1|2|3|5|7|9]^^^^^", "#[2|3|4|6|8]^^^^^", "[3|4|5|8]^^^^^^"),
    "product": (
        "{thing}", "{thing}", "{colour} {thing}", "{brand} {thing}", "{brand} {thing}", "{thing} ({colour})",
        "{thing} in {colour}",
    ),
    "product2": ("{thing2}", "{colour2} {thing2}", "{brand} {thing2}"),
    "thing": (
        "desk lamp", "espresso machine", "yoga mat", "rain jacket", "backpack", "electric kettle", "air fryer",
        "bike light", "sleeping bag", "winter coat", "office chair", "keyboard", "e-reader", "smart watch",
        "phone case", "bread maker", "blender", "camping stove", "wall clock", "duvet cover", "bedside table",
        "hair dryer", "coffee grinder", "router", "vacuum cleaner", "standing desk", "monitor arm", "webcam",
        "microphone", "travel mug", "pair of running shoes", "pair of hiking boots", "set of steak knives",
        "cast iron pan", "baby monitor", "car seat", "board game", "puzzle", "bluetooth speaker", "toothbrush",
        "pair of earbuds", "laptop sleeve", "bird feeder", "humidifier", "floor rug", "bookshelf", "swim suit",
        "wool scarf", "tent", "water filter",
    ),
    "thing2": (
        "salad bowl", "hoodie", "table lamp", "toaster", "phone charger", "picture frame", "bath towel", "garden hose",
        "rice cooker", "mouse pad", "pair of sandals", "beanie", "sofa cushion", "drill", "notebook", "teapot",
        "mirror", "pair of gloves", "curtain rod", "dog bed", "thermos", "umbrella", "ironing board", "tripod",
        "shower head",
    ),
    "colour": (
        "black", "white", "grey", "navy", "dark green", "red", "beige", "light blue", "copper", "mustard", "pink",
    ),
    "colour2": ("brown", "silver", "turquoise", "yellow", "purple", "orange", "cream", "charcoal"),
    "brand": (
        "Nordvik", "Lumora", "Havn", "Tessaro", "Kubik", "Brisa", "Oakfell", "Pirelo", "Sundby", "Veltra", "Quillon",
    ),
    "carrier": ("DHL", "UPS", "DPD", "GLS", "Hermes", "FedEx", "the post", "the courier", "your carrier"),
    "tracking": ("[JD|1Z|RR|CX]^^^^^^^^^", "0034^^^^^^^^", "^^^^ ^^^^ ^^^^"),
    "card": (
        "Visa", "Mastercard", "debit card", "credit card", "PayPal account", "Amex", "bank account", "Maestro card",
    ),
    "plan": ("Basic", "Starter", "Solo", "Plus", "Family", "Monthly"),
    "plan2": ("Premium", "Pro", "Business", "Family Plus", "Annual", "Unlimited"),
    "person": (
        "my sister", "my dad", "my mother in law", "my daughter", "my flatmate", "a colleague", "my husband", "my wife",
        "my grandson", "a friend", "my neighbour", "my brother", "our team",
    ),
    "occasion": (
        "a birthday", "our anniversary", "a wedding", "a housewarming", "a trip", "a school project", "a baptism",
    ),
    "agent": (
        "Kevin", "Priya", "Marta", "Tom", "Aylin", "Joost", "Sandra", "Emeka", "Fabio", "Nadia",
    ),
    "company": (
        "Brückner GmbH", "Hartley & Sons", "Studio Mirabel", "Okoro Consulting", "Pixelwerk UG", "Blue Heron Ltd",
        "Café Zoé SARL", "Lindqvist AB", "Montero SL", "Tri-County Dental", "Kowalski Transport", "Vos Architecten",
    ),
    "vat": ("DE^^^^^^^^^", "FR^^^^^^^^^^^", "GB^^^^^^^^^", "PL^^^^^^^^^^", "SE^^^^^^^^^^01", "ESB^^^^^^^^"),
    "error": ("E[1|2|4|5]^^", "[40|50][1|2|3|4]", "ERR_[AUTH|TIMEOUT|3DS|SESSION]_^^", "0x8^^^"),
    "browser": ("Chrome", "Firefox", "Safari", "Edge", "my iPad", "my phone", "a different laptop", "incognito mode"),
    "phone": ("+49 1[5|7]^ ^^^^^^^", "07^^^ ^^^^^^", "+33 6 ^^ ^^ ^^ ^^", "(^^^) 555-0[1|2]^^", "+48 ^^^ ^^^ ^^^"),
    "browser2": ("Opera", "Brave", "Samsung Internet", "my work computer", "my old tablet"),
    "child": ("son", "daughter", "kid", "grandson", "5 year old", "nephew"),
    "few": ("3", "4", "five", "six", "two"),
    "zip": ("[1|2|3|4|5|6|7|8]^^^^",),
    "year": ("2015", "2016", "2017", "2018", "2019", "2020", "2021", "2022", "2023"),
    "years": ("2", "3", "4", "5", "six", "seven", "8", "ten", "12"),
    "pts": ("[1|2|4|6|8]^0", "1[2|3|5]^0", "[2|3|5] 000", "9^^"),
    "hours": ("20 minutes", "half an hour", "40 minutes", "over an hour", "two hours", "three days", "a whole week"),
    "reference": ("[A|B|K|R|S]-^^^^^", "case ^^^^^^", "ref. ^^^^^", "[X|Z]^^^^^^"),
}  # fmt: skip

GREETINGS = (
    "hi", "hello", "hi there", "dear support", "good morning", "good evening", "hey", "dear team", "hello team",
    "hi guys", "dear sir or madam", "good afternoon", "hallo", "bonjour", "to whom it may concern", "hi support team",
    "hey folks",
)  # fmt: skip

OPENINGS = (
    "I hope [you can help me|this finds you well|this is the right address].",
    "[sorry to bother you|sorry if this is the wrong form], [I don't know who else to ask|I found no other contact].",
    "I have [a quick question|a small problem|a bit of a problem|an issue] [here|with you|and hope you can help].",
    "writing again because [the chat closed on me|your chat bot did not understand me|nobody picks up the phone].",
    "this is about [order {order}|my order from {date}|customer number {customer}|the {product}].",
    "my name is {name}[, customer {customer}| from {city}|].",
    "I've been a customer [for {years} years|since {year}] [and never had to write before|].",
    "[ok so|right,|so,] [here is what happened|let me explain|quick one].",
    "I [couldn't find|did not find] an answer [in your FAQ|on your help pages], [so I try here|so here I am].",
    "your colleague {agent} [told me|asked me] to write [to this address|here].",
    "first time I [write|have to contact you], [please bear with me|so please be kind].",
    "[re|about]: {order}.",
)

FILLERS = (
    "the order number is {order}.",
    "my customer number is {customer}[, if you need it| in case that helps|].",
    "I paid {amount} [by|with my] {card}[ on {date}| back then|].",
    "it's [about|for] the {product} [I bought {when}|from {date}|].",
    "you can [reach|call] me [on|at|under] {phone}[ after 5| in the mornings| any time|].",
    "[I attached|see attached|attached is] a screenshot[ of the page| of the mail| so you can see it|].",
    "I've been [shopping|ordering] with you for {years} years.",
    "[I'm on my phone|typing on my phone], [so excuse the typos|so I keep it short].",
    "the delivery address is in {city}.",
    "[I already tried the chat|The chat bot was no use|The phone line was busy], [hence this mail|so I'm writing].",
    "my [e-mail|mail address|account e-mail] is {email}.",
    "I need this [sorted|solved|done] before {weekday}[ if possible| please|].",
    "{person} [said I should write to you|told me you are quick with such things].",
    "English is not my first language, [sorry|I hope it is clear].",
    "[it was|the whole thing was] [{amount} in total|{amount} with shipping|not cheap, {amount}].",
    "the reference [in your mail|on my screen|I was given] is {reference}.",
)

FOLLOW_UPS = (
    "[I wrote|I already wrote|I sent a mail] on {days_before}[ and got no answer| but nobody replied|, no reaction].",
    "[second|2nd|third] [mail|message|time] [about this|now|].",
    "[following up on|coming back to] my [message|ticket|mail] from {days_before}[, {order}|].",
    "[any progress|anything new|did anybody look at this]?",
    "[still nothing|no reply yet|still no answer][, so once more| from you|]:",
    "[sorry to push|don't want to nag], [but it has been a while|but this is still open].",
)

RESENDS = ("{text}", "{text}", "{text}!", "{text} ??", "{text}\n\nSent again, I got no confirmation.", "resend: {text}")

CLOSINGS = (
    "thanks", "thank you", "many thanks", "thanks in advance", "thank you for your help", "best regards",
    "kind regards", "best", "cheers", "regards", "greetings from {city}", "please get back to me[ soon| asap| today|]",
    "looking forward to your [reply|answer|quick reply]",
    "[hope to hear|waiting to hear|hoping to hear] from you[ soon|]", "have a [nice|good] [day|evening|weekend]",
    "please [advise|help|answer by mail]", "what [can be done|can you do|now]?",
    "I'd appreciate a [quick|short|proper] [answer|reply]",
    "[please|can you] [sort|fix|look into] this [quickly|for me|]",
)  # fmt: skip


class Phrases(NamedTuple):
    """How customers word one intent."""

    cores: tuple[str, ...]  # sentences that carry the intent
    shorts: tuple[str, ...]  # whole tickets of a few words
    stories: tuple[str, ...]  # background, which alone need not tell the intent
    asides: tuple[str, ...]  # the matter in passing, inside a ticket about something else
    openings: tuple[str, ...] = OPENINGS
    fillers: tuple[str, ...] = FILLERS
    closings: tuple[str, ...] = CLOSINGS


CONNECTORS = (
    "also,",
    "and another thing:",
    "by the way,",
    "btw",
    "oh and",
    "one more thing,",
    "on a side note,",
    "PS:",
)

PIVOTS = ("anyway,", "but that's not why I write:", "more important:", "the main thing is:", "my real problem:")

SIGNATURES = ("{first}", "{name}", "{name}", "{name}, {city}", "{name} ({customer})", "{name}\n{phone}")

EMOJI = ("🙏", "😡", "😞", "🙂", "😅", "👍", "😩", "🤷", "❗", "📦", "😭", "🙄", "🤔")
HAPPY_EMOJI = ("😍", "❤️", "👏", "🙂", "🎉", "⭐⭐⭐⭐⭐", "👍", "🥰")

SHORT_FORMS = {
    "please": "pls", "thanks": "thx", "you": "u", "your": "ur", "are": "r", "because": "cuz", "tomorrow": "tmrw",
    "and": "n",
    "number": "nr", "message": "msg", "for": "4", "something": "smth", "about": "abt", "people": "ppl",
    "months": "mths",
    "password": "pw", "account": "acc", "delivery": "delivry", "received": "recieved", "definitely": "definately",
}  # fmt: skip

# Tickets on which careful annotators differ, and the labels that they give.
AMBIGUOUS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "[problem|issue|trouble] with [order {order}|my order {order}|the {product}]",
        ("order_status", "delivery_delay", "damaged_item", "wrong_item"),
    ),
    ("[I want to|please|need to] cancel[, {name}|, customer {customer}|]", ("cancel_order", "cancel_subscription")),
    ("cancel it and give me [my|the] {amount} [back|]", ("cancel_order", "refund_request", "cancel_subscription")),
    (
        "still waiting[ for the {product}| since {date}| in {city}|]!!",
        ("delivery_delay", "refund_request", "order_status"),
    ),
    ("my [card|{card}] [is not working|does not work] [here|with you]", ("payment_failed", "login_problem")),
    (
        "{amount} [gone|taken], [nothing came|nothing here|no {product}]",
        ("refund_request", "delivery_delay", "order_status"),
    ),
    ("[can't|cannot] [use|get into] my [{plan}|subscription]", ("login_problem", "upgrade_plan", "payment_failed")),
    ("[call me|please call] [about|regarding] [{order}|the {product}], {phone}", ("order_status", "complaint_service")),
    ("this is [not what I paid for|not okay|a joke], {product}", ("wrong_item", "damaged_item", "complaint_service")),
    ("what about [{order}|the {product}|my {amount}]?", ("order_status", "delivery_delay", "refund_request")),
    ("[stop|end] [it|everything|this] [please|now], [{order}|{email}]", ("cancel_order", "cancel_subscription")),
    ("[{plan}|{plan2}] [instead of|not] [{plan2}|Annual][, please|]", ("upgrade_plan", "cancel_subscription")),
)
