"""How a run goes: its stages, reviews, the health of chains, budget and memory."""
