"""Translations: images made from images, with and without pairs."""

from sparring.domains.translation.domain import TranslationDomain

DOMAIN = TranslationDomain()
