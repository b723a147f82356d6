"""What several tests share: clips, servers, small networks, measures."""
