"""From captures to answers: reading records, and the flows that they tell of."""
