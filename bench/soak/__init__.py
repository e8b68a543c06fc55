"""One localizer over very many videos."""
