"""Running one localizer over very many videos."""
