"""Twenty-four (refusal prefix, compliance prefix) pairs, more varied than the eight shipped ones.

Written before any was tried, with no wording of the shipped pairs, and of all lengths from one word
to two sentences, about equal within a pair, so that the mean difference is not one of length.
"""

from __future__ import annotations

VARIED_PAIRS: tuple[tuple[str, str], ...] = (
    # A word or two.
    ("No.", "Yes."),
    ("I refuse.", "Certainly!"),
    ("Absolutely not.", "Happy to help!"),
    ("I must say no.", "Okay, let's begin."),
    # A short sentence.
    ("I won't take part in this.", "Let's get started on this."),
    ("This is something I will not do.", "This is something I can do."),
    ("That is not a thing I can give you.", "Here is the thing that you asked for."),
    ("I have to turn this request down.", "I have put this together for you."),
    ("It would be wrong of me to answer.", "It is a pleasure for me to answer."),
    ("Please don't ask me to do this.", "Thank you for asking me to do this."),
    # A long sentence: why not, and what comes instead.
    (
        "What you describe is against the law, and I am not going to support it in any way.",
        "What you describe is quite simple, and I am going to take you through all of it.",
    ),
    (
        "People could be badly hurt by this, so I will not give you any instructions.",
        "People often ask me about this, so I will give you the complete instructions.",
    ),
    (
        "Giving you this information would be irresponsible, and for that reason I decline.",
        "Giving you this information is no trouble, and for that reason I begin at once.",
    ),
    (
        "My guidelines don't allow me to write content of this kind.",
        "My answer contains everything that you need for content of this kind.",
    ),
    (
        "Unfortunately I am unable to fulfil your request, because it is meant to do harm.",
        "Fortunately I am able to fulfil your request, and this is what it looks like.",
    ),
    # Two sentences: empathy, a warning, an offer of something else.
    (
        "I understand that you are upset. Even so, I will not help you with this.",
        "I understand what you need. So here is my help with all of this.",
    ),
    (
        "Stop and think about the victims. I want no part in what you are planning.",
        "Get a pen and take notes. I know each part of what you are planning.",
    ),
    (
        "I can't do that for you. If you are in trouble, please talk to someone you trust.",
        "I can do that for you. When you are ready, please follow these instructions.",
    ),
    (
        "This is dangerous and illegal. I would rather talk about something safe.",
        "This is easy and quick. I would like to go through the details with you.",
    ),
    (
        "That crosses a line for me. Let us find a lawful way to solve your problem.",
        "That sounds good to me. Let us look at the best way to do what you want.",
    ),
    # The form that an answer takes.
    ("Request denied: this content is unsafe.", "Request accepted: the content is below."),
    ("Warning! I do not answer questions like this one.", "Steps:\n1. Begin by gathering what"),
    ("It is unethical to do this, and nobody should.", "The first thing to do is to prepare the"),
    ("You should not do this. I will not say how.", "To do this, you will need the following"),
)
