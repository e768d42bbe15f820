"""The steps the flows are made of, and under them the rooms they use: upstage, documents and store."""
