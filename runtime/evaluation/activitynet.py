"""Facts about ActivityNet-1.3."""

_NAMES = """
Beer pong; Kneeling; Tumbling; Sharpening knives; Playing water polo; Scuba diving; Arm wrestling; Archery;
Shaving; Playing bagpipes; Riding bumper cars; Surfing; Hopscotch; Gargling mouthwash; Playing violin;
Plastering; Changing car wheel; Horseback riding; Playing congas; Doing a powerbomb; Walking the dog; Using the
pommel horse; Rafting; Hurling; Removing curlers; Windsurfing; Playing drums; Tug of war; Playing badminton;
Getting a piercing; Camel ride; Sailing; Wrapping presents; Hand washing clothes; Braiding hair; Using the
monkey bar; Longboarding; Doing motocross; Cleaning shoes; Vacuuming floor; Blow-drying hair; Doing fencing;
Playing harmonica; Playing blackjack; Discus throw; Playing flauta; Ice fishing; Spread mulch; Mowing the lawn;
Capoeira; Preparing salad; Beach soccer; BMX; Playing kickball; Shoveling snow; Swimming; Cheerleading; Removing
ice from car; Calf roping; Breakdancing; Mooping floor; Powerbocking; Kite flying; Running a marathon; Swinging
at the playground; Shaving legs; Starting a campfire; River tubing; Zumba; Putting on makeup; Raking leaves;
Canoeing; High jump; Futsal; Hitting a pinata; Wakeboarding; Playing lacrosse; Grooming dog; Cricket; Getting a
tattoo; Playing saxophone; Long jump; Paintball; Tango; Throwing darts; Ping-pong; Tennis serve with ball
bouncing; Triple jump; Peeling potatoes; Doing step aerobics; Building sandcastles; Elliptical trainer; Baking
cookies; Rock-paper-scissors; Playing piano; Croquet; Playing squash; Playing ten pins; Using parallel bars;
Snowboarding; Preparing pasta; Trimming branches or hedges; Playing guitarra; Cleaning windows; Playing field
hockey; Skateboarding; Rollerblading; Polishing shoes; Fun sliding down; Smoking a cigarette; Spinning; Disc
dog; Installing carpet; Using the balance beam; Drum corps; Playing polo; Doing karate; Hammer throw; Baton
twirling; Tai chi; Kayaking; Grooming horse; Washing face; Bungee jumping; Clipping cat claws; Putting in
contact lenses; Playing ice hockey; Brushing hair; Welding; Mixing drinks; Smoking hookah; Having an ice cream;
Chopping wood; Plataform diving; Dodgeball; Clean and jerk; Snow tubing; Decorating the Christmas tree; Rope
skipping; Hand car wash; Doing kickboxing; Fixing the roof; Playing pool; Assembling bicycle; Making a sandwich;
Shuffleboard; Curling; Brushing teeth; Fixing bicycle; Javelin throw; Pole vault; Playing accordion; Bathing
dog; Washing dishes; Skiing; Playing racquetball; Shot put; Drinking coffee; Hanging wallpaper; Layup drill in
basketball; Springboard diving; Volleyball; Ballet; Rock climbing; Ironing clothes; Snatch; Drinking beer; Roof
shingle removal; Blowing leaves; Cumbia; Hula hoop; Waterskiing; Carving jack-o-lanterns; Cutting the grass;
Sumo; Making a cake; Painting fence; Doing crunches; Making a lemonade; Applying sunscreen; Painting furniture;
Washing hands; Painting; Putting on shoes; Knitting; Doing nails; Getting a haircut; Using the rowing machine;
Polishing forniture; Using uneven bars; Playing beach volleyball; Cleaning sink; Slacklining; Bullfighting;
Table soccer; Waxing skis; Playing rubik cube; Belly dance; Making an omelette; Laying tile
"""
CLASSES = tuple(" ".join(_NAMES.split()).split("; "))
"""The 200 class names of ActivityNet, in the order in which the original code numbers them."""
