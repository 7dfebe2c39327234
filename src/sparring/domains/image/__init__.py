"""Images: any size, one to four channels."""

from sparring.domains.image.domain import ImageDomain

DOMAIN = ImageDomain()
