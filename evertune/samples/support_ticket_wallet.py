"""The drift: how customers write once the shop has its app, a wallet and loyalty points."""

from evertune.samples.support_ticket_shared import Phrases

APP_MENTIONS = (
    "i [ordered|bought it|did it] [in|with] your new app[, if that matters|].", "the new app [shows|says] the same.",
    "[couldn't find|is there] anything about it in the new app?", "(sent from the new app)",
)  # fmt: skip

WALLET_REFUND = Phrases(
    cores=(
        "my cashback for {order} never landed in the app wallet.",
        "please [push|book|move] the {amount} to my [app balance|wallet balance|wallet].",
        "I [need|want|am asking for] a points reversal for [order {order}|the {product}].",
        "wallet credit [for the {product}|of {amount}] [is missing|doesn't show up|still says pending] in the app.",
        "the {product} is with you [again|] since {date}, but my wallet [still shows 0|has not moved].",
        "[requesting|I request] a chargeback to the app balance, {amount}, {order}.",
        "the app took [my points|{pts} points] for {order}, which I didn't keep, please [give them back|reverse them].",
        "my [gold|silver|bronze] tier points for the {product} should go back into the wallet.",
        "when will the {amount} [appear|be credited|show] in my app wallet?",
        "the wallet says '[credit on hold|pending release|awaiting sync]' since {date}, please release it.",
        "[only|just] {pts} points came back to the wallet, I spent [{amount}|twice as many].",
        "can you reverse the wallet payment [of {amount}|for {order}]? [I gave the {product} back|It was a mistake].",
        "swap the {product} into wallet credit please, [I don't like it|it's too small|it doesn't suit me].",
        "I dropped the {product} at the locker, the app promised instant credit, [nothing|balance unchanged].",
        "my app balance is {amount} short since I handed in the {product}.",
        "please un-redeem my {pts} points, [I sent the {product} in again|{order} was called off].",
        "[top my wallet back up|reload my wallet] with the {amount} from {order}.",
        "the loyalty wallet [ate|swallowed] my {amount}, [the drop-off|the hand-in] of the {product} is confirmed.",
        "why is the cashback of {amount} [locked|frozen|greyed out] in the app?",
        "points for {order} were deducted twice, please reverse [one|the second] [booking|deduction].",
        "I'd like the {amount} as wallet credit, not as [a voucher|points].",
        "drop-off scanned {when}, [app wallet still empty|no wallet credit so far].",
        "reverse my points [pls|please], the {product} went back to your locker in {city}.",
        "the app shows 'credit issued' but the balance is [the same|zero|unchanged].",
        "my wallet credit [expired|vanished] before I could use it, please [restore|re-credit] the {amount}.",
        "[please turn|can you turn] my {pts} points back into [real balance|wallet credit] for the {product}.",
        "balance correction needed: {product} handed in, {amount} not credited to the wallet.",
        "the instant credit for {order} went to [the wrong|an old] wallet, please move it to [mine|{email}].",
    ),
    shorts=(
        "wallet credit [for|] {order} [pls|please|??]", "cashback [missing|not in wallet], {order}",
        "points reversal {order}[ pls|]", "where is my [wallet credit|cashback], {amount}",
        "{pts} points gone, {order}", "app balance still 0, {product}", "[reverse|restore] my {pts} points",
        "{amount} to my wallet pls", "wallet stuck on pending, {order}", "chargeback to app balance {amount}",
        "credit on hold in app, {product}", "no cashback for {product}",
    ),
    stories=(
        "I paid half with points and half with the {card}.",
        "the scan at the locker in {city} worked, I have the code {reference}.",
        "I updated the app and signed in again, same balance.",
        "{person} did the same on the same day and had the credit after an hour.",
        "the app only shows a little clock next to the amount.",
        "I'm on {plan2}, so it should be instant.",
        "the {product} was not for me, so I dropped it off {when}.",
        "I wanted to use the balance for my next order.",
        "before the app it all simply went to my {card}.",
    ),
    asides=(
        "my cashback for {order2} is missing in the wallet.", "my wallet credit is still pending.",
        "the app still owes me {pts} points.", "the balance in my wallet looks too low.",
    ),
)  # fmt: skip
