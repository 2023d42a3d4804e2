"""Results for people: tables, pictures, sheets, time and memory fairly compared."""
