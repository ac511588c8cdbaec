"""Networks under one recipe: trained, packed, scored and measured into one table and one chart."""
